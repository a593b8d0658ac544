() => {
  const found = [];
  for (const svg of document.querySelectorAll("svg.drawing")) {
    if (!svg.checkVisibility()) continue;
    const texts = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]).filter(([, b]) => b.width);
    const frame = svg.getBoundingClientRect();
    texts.forEach(([a, x], k) => {
      if (x.right > frame.right + 14 || x.left < frame.left - 14) found.push(`"${a}" leaves its drawing`);
      for (const [b, y] of texts.slice(k + 1)) {
        const wide = Math.min(x.right, y.right) - Math.max(x.left, y.left);
        const high = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
        if (wide > 2 && high > 5) found.push(`"${a}" over "${b}"`);
      }
    });
  }
  return found;
}
