// The charts. Each takes facts and a width, and gives an element.

const PHASES = ["COMMIT", "BEACON", "AVAILABLE", "REVEAL", "AGGREGATE", "VERIFY", "OPEN"];
const PHASE_WORDS = {
  COMMIT: "train, commit", BEACON: "draw chance", AVAILABLE: "share, judge", REVEAL: "open ballots",
  AGGREGATE: "aggregate", VERIFY: "vote", OPEN: "open the sum",
};
const BASELINES = [
  ["pooled", "all data pooled"], ["alone_mean", "members alone, mean"], ["fedavg_unprotected", "FedAvg, unprotected"],
];
const values = (points) => points.map(([, v]) => v).filter((v) => v !== null);

/** Lines over rounds: each {name, css, points: [[round, value]]}. Values far off are drawn at the edge, and said. */
function metricChart(series, metric, width) {
  const narrow = width < 560;
  const [left, right, top, bottom] = [46, narrow ? 12 : 218, 14, 28];
  const height = narrow ? 260 : 340;
  const shown = series.filter((line) => values(line.points).length);
  if (!shown.length) return empty("No round has been measured yet.");
  const domain = reach(shown.map((line) => values(line.points)), metric);
  const last = Math.max(...shown.flatMap((line) => line.points.map(([r]) => r)));
  const x = linear([Math.min(1, last - 1), last], [left + 8, width - right - 8]);
  const inside = (v) => Math.min(Math.max(v, domain[0]), domain[1]);
  const y = linear(domain, [height - bottom, top]);
  const grid = ticks(domain, 6).map((v) => [
    s("line", { class: "rule", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
    s("text", { class: "axis", x: left - 8, y: y(v) + 4, "text-anchor": "end" }, metricText(metric, v).replace(".0 %", " %")),
  ]);
  const rounds = ticks([1, last], narrow ? 5 : 10).filter((r) => Number.isInteger(r) && r > 0).map((r) =>
    s("text", { class: "axis", x: x(r), y: height - bottom + 20, "text-anchor": "middle" }, String(r)));
  const ends = shown.map((line) => line.points.filter(([, v]) => v !== null).at(-1));
  const labels = apart(ends.map(([, v]) => y(inside(v))), 17, top, height - bottom);
  const off = (v) => (v === inside(v) ? "" : ", off this scale");
  const marks = shown.map((line, k) => {
    const points = line.points.filter(([, v]) => v !== null);
    const d = points.map(([r, v], n) => `${n ? "L" : "M"}${x(r).toFixed(1)} ${y(inside(v)).toFixed(1)}`).join("");
    const [, end] = ends[k];
    return s("g", { class: `line ${line.css}` },
      s("path", { class: "trace", d }),
      points.map(([r, v]) => telling(
        s("circle", { class: points.length > 40 ? "dot small" : "dot", cx: x(r), cy: y(inside(v)), r: points.length > 40 ? 2.5 : 3.5 }),
        [`${line.name}: ${metricText(metric, v)}`, `after round ${r}${off(v)}`])),
      !narrow && s("text", { class: "label", x: width - right + 4, y: labels[k] + 4 },
        s("tspan", { class: "value" }, metricText(metric, end)), s("tspan", { dx: 7 }, line.name)));
  });
  const chart = drawing(width, height, `${metric} by round`, grid, rounds,
    s("text", { class: "axis", x: left - 8, y: height - bottom + 20, "text-anchor": "end" }, "round"), marks.reverse());
  const key = narrow && h("ul", { class: "key" }, shown.map((line, k) => h("li", { class: line.css },
    s("svg", { class: `line ${line.css}`, width: 26, height: 10, "aria-hidden": "true" }, s("path", { class: "trace", d: "M1 5H25" })),
    h("b", null, metricText(metric, ends[k][1])), ` ${line.name}`)));
  return h("div", null, chart, key);
}

/** The values to be shown: all shares; of losses, which may explode, those near the best lines. */
function reach(lines, metric) {
  const all = lines.flat();
  let [low, high] = [Math.min(...all), Math.max(...all)];
  if (isLoss(metric)) {
    const calm = Math.max(...lines[0]);
    high = Math.min(high, low + 3 * (calm - low || Math.abs(low) || 1));
  }
  const margin = (high - low || Math.abs(high) || 1) * 0.06;
  return isLoss(metric) ? [Math.max(0, low - margin), high + margin] : [Math.max(0, low - margin), Math.min(1 + margin / 3, high + margin)];
}

/** One line a member, from its own model's value to the joint one's. */
function dumbbell(run, width) {
  const members = run.parties.filter((p) => p.alone !== null && p.joint !== null);
  if (!members.length) return empty("Members' own validation data are compared when a run has ended.");
  const lower = run.better === "lower";
  members.sort((a, b) => (lower ? b.alone - a.alone : a.alone - b.alone));
  const step = members.length > 40 ? 13 : 26;
  const longest = Math.max(...members.map((p) => p.name.length));
  const [left, right, top] = [Math.min(130, 18 + 8 * longest), 86, 30];
  const height = top + members.length * step + 8;
  const all = members.flatMap((p) => [p.alone, p.joint]);
  const domain = reach([all], run.metric);
  const x = linear(domain, [left, width - right]);
  const marks = members.map((p, k) => {
    const y = top + k * step + step / 2;
    const way = p.joint > p.alone ? 1 : -1;
    const lines = [p.name, `own model: ${metricText(run.metric, p.alone)}`, `joint model: ${metricText(run.metric, p.joint)}`,
      p.worse ? "the joint model serves it WORSE" : "the joint model serves it at least as well"];
    return telling(s("g", { class: p.worse ? "bell worse" : "bell" },
      s("rect", { class: "ground", x: 0, y: y - step / 2, width, height: step }),
      s("text", { class: "name", x: left - 14, y: y + 4, "text-anchor": "end" }, clipped(p.name, 15)),
      s("line", { class: "stem", x1: x(p.alone), x2: x(p.joint) - way * 5, y1: y, y2: y }),
      s("circle", { class: "from", cx: x(p.alone), cy: y, r: step > 20 ? 4.5 : 3.5 }),
      s("circle", { class: "to", cx: x(p.joint), cy: y, r: step > 20 ? 5.5 : 4 }),
      p.worse && s("text", { class: "worse-word", x: width - right + 22, y: y + 4 }, "WORSE")), lines);
  });
  const head = [
    s("circle", { class: "from", cx: left + 5, cy: 12, r: 4.5 }), s("text", { class: "axis", x: left + 16, y: 16 }, "its own model"),
    s("circle", { class: "to", cx: left + 129, cy: 12, r: 5.5 }), s("text", { class: "axis", x: left + 141, y: 16 }, "the joint model"),
  ];
  const grid = ticks(domain, width < 560 ? 3 : 5).filter((v) => lower || v < 1.001).map((v) => [
    s("line", { class: "rule", x1: x(v), x2: x(v), y1: top, y2: height - 6 }),
    s("text", { class: "axis", x: x(v), y: height + 10, "text-anchor": "middle" }, metricText(run.metric, v).replace(".0 %", " %"))]);
  return drawing(width, height + 16, `${run.metric} of each member on its own rows, own model and joint model`, grid, head, marks);
}

const clipped = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/** Members by rounds: in the model, left out, absent; who led. */
function participation(run, width, chosenRound, choose) {
  const members = run.parties.filter((p) => p.role === "member" || run.rounds.some((r) => r.leaders.includes(p.id)));
  const rounds = run.rounds;
  if (!rounds.length) return empty("No round has begun yet.");
  const dense = members.length > 30;
  const [left, top] = [dense ? 46 : 70, 30];
  const wide = Math.min(26, (width - left - 8) / rounds.length);
  const high = dense ? 9 : 22;
  const sets = rounds.map((r) => ({ in: new Set(r.selected), sent: new Set(r.committed), led: r.leaders.at(-1), tried: new Set(r.leaders) }));
  const state = (m, k) => {
    const id = members[m].id;
    if (sets[k].in.has(id)) return "selected";
    if (sets[k].sent.has(id)) return rounds[k].outcome === "running" ? "sent" : "left-out";
    return "absent";
  };
  const words = { selected: "in the model", "left-out": "left out", sent: "committed", absent: "sent nothing" };
  const grid = cells({
    rows: members.length, columns: rounds.length, x: left, y: top, size: [wide, high], gap: wide > 6 ? 2 : 0.6,
    label: "Members by rounds",
    paint: state,
    tell: (m, k) => {
      const [p, r] = [members[m], rounds[k]];
      const led = r.leaders.indexOf(p.id);
      const role = led < 0 ? "" : led === r.leaders.length - 1 ? "led the round" : "was tried as leader";
      return [`${p.name}, round ${r.number} (${r.outcome})`, p.role === "member" && words[state(m, k)], role,
        ...r.slashed.filter(([id]) => id === p.id).map(([, why]) => why)];
    },
    chosen: (_, k) => choose(rounds[k].number),
  });
  const leaders = rounds.flatMap((r, k) => {
    const row = members.findIndex((p) => p.id === sets[k].led);
    return row < 0 ? [] : [s("circle", { class: "leader", cx: left + (k + 0.5) * wide, cy: top + (row + 0.5) * high, r: Math.min(wide, high) / 4.2 })];
  });
  const each = Math.ceil(15 / high);
  const names = members.map((p, m) => (m % each ? null : s("text", { class: p.hostile ? "name hostile" : "name", x: left - 8, y: top + (m + 0.5) * high + 4, "text-anchor": "end" },
    clipped(p.name, dense ? 6 : 9))));
  const every = Math.max(1, Math.ceil(26 / wide));
  const place = rounds.findIndex((r) => r.number === chosenRound);
  const marks = rounds.map((r, k) => (k !== place && (k % every || Math.abs(k - place) < every) ? null :
    s("text", { class: r.number === chosenRound ? "axis here" : "axis", x: left + (k + 0.5) * wide, y: top - 9, "text-anchor": "middle" }, String(r.number))));
  const here = place >= 0 && s("rect", { class: "here", x: left + place * wide, y: top - 3, width: wide, height: members.length * high + 6, rx: 3 });
  const height = top + members.length * high + 8;
  return h("div", null, drawing(width, height, "Who was selected, who was left out, who led", marks, names, grid, leaders, here),
    h("ul", { class: "key" }, [["selected", "in the model"], ["left-out", "left out"], ["absent", "sent nothing"]].map(([css, text]) =>
      h("li", null, s("svg", { width: 14, height: 14, "aria-hidden": "true" }, s("rect", { class: css, x: 1, y: 1, width: 12, height: 12 })), text)),
    h("li", null, s("svg", { width: 14, height: 14, "aria-hidden": "true" }, s("rect", { class: "selected", x: 1, y: 1, width: 12, height: 12 }), s("circle", { class: "leader", cx: 7, cy: 7, r: 3.2 })), "led the round")));
}

/** The evaluation matrix of one round: how much better each update alone makes the model, as each evaluator found. */
function matrix(run, round, width) {
  if (!round || !round.matrix) return empty(matrixAbsent(run, round));
  const rows = round.matrix;
  const targets = [...new Set(rows.flatMap((row) => row.targets))].sort((a, b) => a - b);
  const found = rows.map((row) => new Map(row.targets.map((t, k) => [t, row.values[k]])));
  const sizes = rows.flatMap((row) => row.values).filter((v) => v !== null).map(Math.abs).sort((a, b) => a - b);
  const [middle, most] = [sizes[sizes.length >> 1] || 1, sizes.at(-1) || 1];
  const name = (id) => nameOf(run, id);
  const selected = new Set(round.selected);
  const [left, top] = [rows.length > 40 ? 46 : 70, 62];
  const size = Math.min(44, (Math.min(width, 760) - left - 8) / targets.length);
  const high = Math.min(size, rows.length > 40 ? size : 34);
  // Logarithmic: a hostile update is a hundred times as bad as an honest one is good.
  const level = (v) => Math.sign(v) * Math.round((4 * Math.log1p(Math.abs(v) / middle)) / Math.log1p(most / middle));
  const grid = cells({
    rows: rows.length, columns: targets.length, x: left, y: top, size: [size, high], gap: size > 12 ? 2 : 0.5,
    label: `Evaluation matrix of round ${round.number}: rows are evaluators, columns the members whose update they judged`,
    paint: (r, c) => {
      const [id, v] = [targets[c], found[r].get(targets[c])];
      if (v === undefined) return id === rows[r].evaluator ? "own" : "unjudged";
      return v === null ? "doubt" : `q${level(v)}`;
    },
    tell: (r, c) => {
      const [judge, id] = [rows[r].evaluator, targets[c]];
      const v = found[r].get(id);
      if (judge === id) return [`${name(id)} does not judge itself`];
      if (v === undefined) return [`${name(judge)} was not asked about ${name(id)}`];
      if (v === null) return [`${name(judge)} could not judge ${name(id)}`];
      return [`${name(judge)} on the update of ${name(id)}`, `${v < 0 ? "makes it worse" : "makes it better"} by ${Math.abs(v).toPrecision(3)}`,
        selected.has(id) ? "selected in this round" : "left out in this round"];
    },
  });
  const turn = size < 30;
  const every = Math.max(1, Math.ceil(15 / size));
  const heads = targets.map((id, c) => (c % every ? null : s("text", {
    class: selected.has(id) ? "name" : "name out", "text-anchor": turn ? "start" : "middle",
    transform: `translate(${left + (c + 0.5) * size + (turn ? 4 : 0)} ${top - 8})${turn ? " rotate(-90)" : ""}`,
  }, clipped(name(id), turn ? 5 : 6))));
  const everyRow = Math.max(1, Math.ceil(14 / high));
  const sides = rows.map((row, r) => (r % everyRow ? null :
    s("text", { class: "name", x: left - 8, y: top + (r + 0.5) * high + 4, "text-anchor": "end" }, clipped(name(row.evaluator), 8))));
  const outs = targets.map((id, c) => (selected.has(id) || !round.selected.length ? null : s("rect", {
    class: "out-mark", x: left + c * size + size * 0.2, y: top + rows.length * high + 4, width: size * 0.6, height: 3 })));
  const scale = [-4, -3, -2, -1, 0, 1, 2, 3, 4].map((q, k) => s("rect", { class: `q${q}`, x: k * 18, y: 2, width: 17, height: 12 }));
  const limit = most.toPrecision(2);
  return h("div", null,
    drawing(width, top + rows.length * high + 20, `Evaluation matrix of round ${round.number}`,
      s("text", { class: "axis", x: 0, y: 12 }, "evaluator ↓   whose update →"), heads, sides, grid, outs),
    h("ul", { class: "key" }, h("li", null, "worse", s("svg", { width: 162, height: 16, "aria-label": `logarithmic, from ${limit} worse to ${limit} better`, role: "img" }, scale), "better"),
      h("li", null, `logarithmic; the strongest of this round is ${limit}`),
      h("li", null, s("svg", { width: 16, height: 8, "aria-hidden": "true" }, s("rect", { class: "out-mark", x: 1, y: 3, width: 14, height: 3 })), "left out")));
}

function matrixAbsent(run, round) {
  if (run.scheme !== "plaintext") return `Under ${run.scheme.toUpperCase()} members cannot judge single updates: nobody sees one. There is no matrix.`;
  if (!round) return "No round has begun yet.";
  return round.outcome === "running" ? "Ballots of this round are not open yet." : "The rows of this round's matrix are not at hand.";
}

/** Phases of each round, on one clock. */
function timeline(run, width, chosenRound, choose) {
  const rounds = run.rounds.filter((r) => r.spans.length);
  if (!rounds.length) return empty("No phase has begun yet.");
  const used = PHASES.filter((p) => rounds.some((r) => r.spans.some((span) => span.phase === p)));
  const now = Math.max(...rounds.flatMap((r) => r.spans.map((span) => span.end ?? span.begin + 1)));
  const longest = Math.max(...rounds.map((r) => (r.spans.at(-1).end ?? now) - r.spans[0].begin), 1);
  const [left, top] = [46, 12];
  const step = rounds.length > 30 ? 9 : 17;
  const x = linear([0, longest], [left, width - 12]);
  const bars = rounds.map((r, k) => s("g", { class: r.number === chosenRound ? "chosen" : "" },
    (rounds.length <= 30 || k % 5 === 0) && s("text", { class: r.number === chosenRound ? "axis here" : "axis", x: left - 8, y: top + k * step + step / 2 + 4, "text-anchor": "end" }, String(r.number)),
    r.spans.map((span) => {
      const [begin, end] = [span.begin - r.spans[0].begin, (span.end ?? now) - r.spans[0].begin];
      const bar = s("rect", { class: `phase p${PHASES.indexOf(span.phase)}`, x: x(begin), y: top + k * step + 1,
        width: Math.max(1, x(end) - x(begin) - 1), height: step - 2 });
      bar.addEventListener("click", () => choose(r.number));
      return telling(bar, [`${span.phase}: ${PHASE_WORDS[span.phase]}`, `round ${r.number}, ${r.outcome}`,
        span.end === null ? "going on" : secondsText(end - begin)]);
    })));
  const height = top + rounds.length * step;
  const axis = ticks([0, longest], width < 560 ? 3 : 7).map((v) => [
    s("line", { class: "rule", x1: x(v), x2: x(v), y1: top, y2: height }),
    s("text", { class: "axis", x: x(v), y: height + 16, "text-anchor": "middle" }, secondsText(v).replace(".0 s", " s").replace("0.00 s", "0 s"))]);
  return h("div", null, drawing(width, height + 22, "Phases of each round", axis, bars),
    h("ul", { class: "key" }, used.map((p) => h("li", null, s("svg", { width: 14, height: 14, "aria-hidden": "true" },
      s("rect", { class: `phase p${PHASES.indexOf(p)}`, x: 1, y: 1, width: 12, height: 12 })), `${p} ${PHASE_WORDS[p]}`))));
}

/** Bars of one measure by phase; with several runs one bar a run, for one of its rounds. */
function bars(runs, whole, text, width) {
  const share = (run, phase) => (runs.length > 1 && phase !== "set-up" ? Math.max(1, run.rounds.length) : 1);
  const measure = (run, cost) => { const v = whole(cost); return v === null ? null : v / share(run, cost.phase); };
  const phases = ["set-up", ...PHASES].filter((p) => runs.some((run) => run.costs.some((c) => c.phase === p)));
  const amount = (run, phase) => { const c = run.costs.find((cost) => cost.phase === phase); return c ? measure(run, c) : null; };
  const most = Math.max(...runs.flatMap((run) => phases.map((p) => amount(run, p) || 0)));
  if (!most) return empty("Not measured.");
  const [left, right] = [92, 84];
  const high = runs.length > 1 ? 9 : 16;
  const block = runs.length * high + 8;
  const x = linear([0, most], [left, width - right]);
  const marks = phases.map((p, k) => [
    s("text", { class: "name", x: left - 10, y: k * block + (runs.length * high) / 2 + 6, "text-anchor": "end" }, p),
    runs.map((run, n) => {
      const v = amount(run, p);
      const y = k * block + n * high + 2;
      return [telling(s("rect", { class: runs.length > 1 ? `bar c${n % 6}` : "bar", x: left, y, width: Math.max(v ? 1.5 : 0.5, x(v || 0) - left), height: high - 2 }),
        [runs.length > 1 ? run.label : p, runs.length > 1 ? p : PHASE_WORDS[p], v === null ? "not measured" : text(v)]),
      runs.length === 1 && s("text", { class: "axis", x: x(v || 0) + 7, y: y + high / 2 + 4 }, v === null ? "–" : text(v))];
    })]);
  const key = runs.length > 1 && h("ul", { class: "key" }, runs.map((run, n) => h("li", null, h("span", { class: `swatch c${n % 6}` }, run.label))));
  return h("div", null, drawing(width, phases.length * block + 4, "Amounts by phase", marks), key);
}

const LANES = ["on its owner's machine", "store and chain operators", "other organisations"];
const SEEN = { plain: "readable", sealed: "sealed", masked: "masked", shares: "secret shares", joint: "joint, readable", digest: "digests only", none: "never" };

/** Who can read what: one line a kind of data, from its owner through store and chain to others. */
function flow(run, width) {
  const narrow = width < 640;
  const left = narrow ? 8 : 196;
  const [top, step] = [44, narrow ? 92 : 78];
  const at = [0, 1, 2].map((k) => left + ((k + 0.5) * (width - left - 8)) / 3);
  const height = top + run.flows.length * step;
  const lanes = at.map((x, k) => [
    s("rect", { class: "lane", x: x - (width - left - 8) / 6 + 5, y: top - 8, width: (width - left - 8) / 3 - 10, height: height - top + 8, rx: 8 }),
    s("text", { class: "axis", x, y: top - 20, "text-anchor": "middle" }, narrow ? ["owner", "operators", "others"][k] : LANES[k])]);
  const rows = run.flows.map((f, k) => {
    const y = top + k * step + (narrow ? 50 : 30);
    const seen = [f.own, f.operators, f.others];
    const css = (n) => (n && f.crosses && seen[n] === "plain" ? "crossing" : seen[n]);
    const through = seen.map((v, n) => (v !== "none" ? n : -1)).filter((n) => n >= 0);
    const lines = through.slice(1).map((n, k) => s("line", { class: `edge ${css(n)}`, x1: at[through[k]] + 8, x2: at[n] - 10, y1: y, y2: y }));
    const arrows = through.slice(1).map((n) => s("path", { class: `head ${css(n)}`, d: `M${at[n] - 17} ${y - 5}l8 5l-8 5z` }));
    const dots = seen.map((v, n) => (v === "none" ?
      s("g", { class: "stop" }, s("line", { x1: at[n] - 5, x2: at[n] + 5, y1: y - 5, y2: y + 5 }), s("line", { x1: at[n] - 5, x2: at[n] + 5, y1: y + 5, y2: y - 5 })) :
      s("circle", { class: `node ${css(n)}`, cx: at[n], cy: y, r: 7 })));
    const words = seen.map((v, n) => s("text", { class: `seen ${css(n)}`, x: at[n], y: y + 23, "text-anchor": "middle" },
      n && css(n) === "crossing" ? "PLAINTEXT" : SEEN[v]));
    const volume = f.count ? `${number.format(f.count)} × ${bytesText(f.bytes / f.count)}` : "";
    const title = narrow ? [s("text", { class: "what", x: 8, y: y - 26 }, f.what)] :
      [s("text", { class: "what", x: 0, y: y - 2 }, f.what), s("text", { class: "axis", x: 0, y: y + 16 }, volume)];
    return telling(s("g", { class: f.crosses ? "flow crosses" : "flow" },
      s("rect", { class: "ground", x: 0, y: y - 30, width, height: step - 6 }), title, lines, arrows, dots, words), [f.what, f.who, volume]);
  });
  return drawing(width, height + 4, "Who can read what", lanes, rows);
}

const VERDICTS = {
  verified: ["verified", "✓"], attested: ["attested", "◐"], unavailable: ["NOT CHECKED", "–"], failed: ["FAILED", "✕"], unchecked: ["not checked", ""],
};
const verdictOf = (name) => VERDICTS[name] || VERDICTS.unchecked;

/** The chain of evidence, from the terms to this page. */
function chain(run) {
  return h("ol", { class: "chain" }, run.evidence.map((link) => {
    const [word, sign] = verdictOf(link.verdict);
    const head = [h("span", { class: "seal", "aria-hidden": "true" }, sign), h("span", { class: "title" }, link.title),
      h("span", { class: "verdict" }, word), h("span", { class: "claim" }, link.claim)];
    const checks = link.checks.map((c) => h("li", { class: c.verdict in VERDICTS ? c.verdict : "unchecked" },
      h("span", null, c.name), h("span", { class: "number" }, number.format(c.count)), h("span", null, [verdictOf(c.verdict)[0], c.note].filter(Boolean).join(": "))));
    return h("li", { class: link.verdict in VERDICTS ? link.verdict : "unchecked" },
      checks.length ? h("details", null, h("summary", null, head), h("ul", { class: "checks" }, checks)) : h("div", { class: "summary" }, head));
  }));
}

const empty = (text) => h("p", { class: "empty" }, text);
const nameOf = (run, id) => (run.parties.find((p) => p.id === id) || { name: `id ${id}` }).name;
