// The page: facts from inside it, tabs, the chosen round, the theme; and, where it is served live, newer facts.

const VERSION = 1;
const root = document.getElementById("report");
const view = { runs: [], live: false, run: 0, round: null, tab: "overview", trouble: "" };
const figures = [];

const run = () => view.runs[view.run];
const several = () => view.runs.length > 1;
const member = (p) => p.role === "member";
const chosen = () => run().rounds.find((r) => r.number === view.round);
const newest = () => (run().rounds.length ? run().rounds.at(-1).number : null);

const TABS = [
  ["overview", "Overview", overview], ["rounds", "Rounds", roundsPanel], ["members", "Members", membersPanel],
  ["costs", "Costs", costsPanel], ["flow", "Data flow", flowPanel], ["evidence", "Evidence", evidencePanel],
];

/** A figure that is drawn anew when facts, the round or the width change; its controls are not. */
function figure(title, note, draw, needs = "facts") {
  const body = h("div", { class: "body" });
  const said = h("p", { class: "note" });
  const made = h("figure", null, h("figcaption", null, h("h2", null, title), said), body);
  figures.push({ needs, redraw: () => {
    const focused = body.contains(document.activeElement);
    said.textContent = typeof note === "function" ? note() : note;
    body.replaceChildren(draw(Math.max(280, root.clientWidth - 2)));
    if (focused) (body.querySelector("[tabindex='0']") || document.body).focus({ preventScroll: true });
  } });
  return made;
}

function redraw(needs = null) {
  hideTip();
  for (const f of figures) if (!needs || f.needs === needs) f.redraw();
}

function setRound(number) {
  view.round = number;
  redraw("round");
}

// Panels

function series() {
  const joint = (r, css) => ({ name: several() ? r.label : "this federation", css, points: r.rounds.filter((x) => x.value !== null).map((x) => [x.number, x.value]) });
  if (several()) return view.runs.map((r, k) => joint(r, `c${k % 6}`)).filter((_, k) => view.runs[k].metric === run().metric);
  const b = run().baselines;
  return [joint(run(), "joint"), ...BASELINES.map(([key, name]) => ({
    name, css: key, points: b[key].map((v, k) => [b.rounds[k], v]),
  }))];
}

function overview() {
  const metric = () => run().metric;
  return [
    figure(`Held-out ${metric()} by round`, () => (several()
      ? `Rows that no member holds. One line a run${view.runs.some((r) => r.metric !== metric()) ? `, of those measured by ${metric()}` : ""}.`
      : run().baselines.rounds.length || !run().finished ? `Rows that no member holds. ${hostileText()}` : "As the app reports it."), (w) => {
      const lines = series();
      const rows = [...new Set(lines.flatMap((l) => l.points.map(([r]) => r)))].sort((a, b) => a - b);
      return h("div", null, metricChart(lines, metric(), w), numbers("Numbers", ["#round", ...lines.map((l) => `#${l.name}`)],
        rows.map((r) => [r, ...lines.map((l) => { const at = l.points.find(([x]) => x === r); return at ? metricText(metric(), at[1]) : ""; })])));
    }),
    several() && figure("Side by side", "What the runs are, and what came of them.", () => compareTable()),
    figure("What each member gains", () => (several() ? `Of ${run().label}. ` : "")
      + `${metric()[0].toUpperCase()}${metric().slice(1)} on its own validation rows: its own model, then the joint one.${worseText()}`, (w) => dumbbell(run(), w)),
    figure("Protection", "What a participant must know.", () => protection()),
  ];
}

function hostileText() {
  const n = run().parties.filter((p) => p.hostile).length;
  return n ? `${plural(n, "member")} attack${n === 1 ? "s" : ""} the run, and plain FedAvg beside it in the same way.` : "";
}

function worseText() {
  const told = run().parties.filter((p) => p.joint !== null);
  const worse = told.filter((p) => p.worse).length;
  return told.length ? ` ${worse || "None"} of ${told.length} ${worse === 1 ? "is" : "are"} served worse by the joint model.` : "";
}

function protection() {
  const r = run();
  const noise = r.noise === "off" ? "Differential privacy is OFF: nothing bounds what the model gives away." : `Differential privacy: ${r.noise}.`;
  return h("div", { class: "protection" },
    h("p", { class: "scheme" }, h("b", null, r.scheme.toUpperCase()), r.protection && ` · ${r.protection}`),
    h("p", null, r.privacy), h("p", null, noise),
    h("dl", null, r.scheme_words.map((w) => h("div", null, h("dt", null, w.label), h("dd", null, w.text)))));
}

function compareTable() {
  const last = (r) => r.rounds.filter((x) => x.value !== null).at(-1);
  const total = (r) => r.gas_by_call.reduce((sum, [, gas]) => sum + gas, 0);
  return table(["run", "scheme", "enclaves", "selection, aggregation", "members", "#rounds", `#${run().metric}`, "#worse off", "#gas", "#seconds", "evidence"], view.runs.map((r, k) => [
    h("span", { class: `swatch c${k % 6}` }, r.label), r.scheme.toUpperCase(), r.protection || "none", `${r.selection}, ${r.aggregation}`,
    `${r.parties.filter(member).length}${r.parties.some((p) => p.hostile) ? `, ${r.parties.filter((p) => p.hostile).length} hostile` : ""}`,
    `${r.final} of ${r.planned}`, last(r) ? metricText(r.metric, last(r).value) : "none",
    String(r.parties.filter((p) => p.worse).length), total(r) ? compact.format(total(r)) : "not known", r.seconds === null ? "not known" : secondsText(r.seconds),
    r.audited ? auditWord(r) : "not audited"]));
}

function auditWord(r) {
  const bad = r.evidence.some((l) => l.verdict === "failed") || r.audited.findings.length;
  if (bad) return "FAILED";
  return r.evidence.some((l) => l.verdict === "unavailable") ? "some checks could not be made" : "every check holds";
}

function roundsPanel() {
  const slider = h("input", { type: "range", id: "round", step: 1, min: 1, max: 1, oninput: (e) => setRound(Number(e.target.value)) });
  const value = h("output", { for: "round" });
  figures.push({ needs: "round", redraw: () => {
    const list = run().rounds;
    fill(slider, { max: Math.max(1, list.length ? list.at(-1).number : 1), min: list.length ? list[0].number : 1 }, []);
    slider.disabled = list.length < 2;
    slider.value = view.round ?? 1;
    value.textContent = view.round === null ? "none yet" : `${view.round} of ${run().planned}`;
  } });
  return [
    h("div", { class: "control" }, h("label", { for: "round" }, "Round"), slider, value),
    figure("The round", () => "", () => roundWords(), "round"),
    figure("Evaluation matrix", () => "How much better each update alone makes the model, on each evaluator's own validation rows.",
      (w) => matrix(run(), chosen(), w), "round"),
    figure("Who took part", () => "Every member in every round. A click shows that round above.", (w) => participation(run(), w, view.round, pick), "round"),
    figure("Phases", () => (run().simulated ? "By the chain's clock, which a simulation sets: training time is modelled." : "By the chain's clock."),
      (w) => timeline(run(), w, view.round, pick), "round"),
  ];
}

function pick(number) {
  setRound(number);
}

function roundWords() {
  const r = chosen();
  if (!r) return empty("No round has begun yet.");
  const names = (ids) => ids.map((id) => nameOf(run(), id)).join(" ") || "nobody";
  const out = r.committed.filter((id) => !r.selected.includes(id));
  const silent = run().parties.filter((p) => member(p) && !r.committed.includes(p.id)).map((p) => p.id);
  const leader = r.leaders.length ? `${names(r.leaders.slice(-1))}${r.leaders.length > 1 ? `, after ${names(r.leaders.slice(0, -1))} failed` : ""}` : "not elected yet";
  const line = (label, text) => text && h("div", null, h("dt", null, label), h("dd", null, text));
  return h("dl", { class: "facts" }, line("ended", r.outcome), line("leader", leader), line("in the model", r.selected.length ? names(r.selected) : "nobody yet"),
    line("left out", r.selected.length && out.length ? names(out) : ""), line("sent nothing", silent.length ? names(silent) : ""),
    line("votes", `${r.approvals} for, ${r.rejections} against`), line(run().metric, r.value === null ? "" : metricText(run().metric, r.value)),
    line("lost reputation", r.slashed.map(([id, why]) => `${nameOf(run(), id)} ${why}`).join("; ")));
}

function membersPanel() {
  return [figure("Members", () => (run().parties.some((p) => p.hostile) ? "What the simulation had a hostile member do stands beside its name; the federation did not know." : ""), () => {
    const r = run();
    const others = r.parties.some((p) => !member(p));
    return table(["name", ...(others ? ["role"] : []), "#training rows", "#in the model", "#led", "#reputation", `#own ${r.metric}`, "#joint", "", "remarks"], r.parties.map((p) => [
      h("span", null, p.name, p.hostile && h("span", { class: "hostile" }, ` ${p.hostile}`)), ...(others ? [p.role] : []),
      p.rows === null ? "" : number.format(p.rows), member(p) ? `${r.final - p.left_out} of ${r.final}` : "", number.format(p.led), number.format(p.reputation),
      p.alone === null ? "" : metricText(r.metric, p.alone), p.joint === null ? "" : metricText(r.metric, p.joint),
      p.worse ? h("b", { class: "worse-word" }, "WORSE") : "", remarks(p)]));
  })];
}

function remarks(p) {
  const often = ([why, n]) => `${why}${n > 1 ? ` in ${n} rounds` : " once"}`;
  return [p.standing === "active" ? "" : p.standing, ...p.why.map(often), ...p.slashed.filter(([w]) => !p.why.some(([x]) => x === w)).map(([w, n]) => `${w} (${n})`)]
    .filter(Boolean).join("; ");
}

function costsPanel() {
  const runs = () => view.runs;
  const rounds = () => Math.max(1, run().rounds.length);
  const people = () => Math.max(1, run().parties.filter(member).length);
  const steady = () => run().costs.filter((c) => c.phase !== "set-up").reduce((sum, c) => sum + (c.gas || 0), 0);
  const each = several() ? "A round of each run; set-up once. " : "";
  return [
    figure("Gas by phase", () => each + (run().costs.some((c) => c.gas) ? `${several() ? `${run().label}: ` : ""}${number.format(Math.round(steady() / rounds() / people()))} a member and round, without set-up.` : ""),
      (w) => bars(runs(), (c) => c.gas, (v) => compact.format(v), w)),
    figure("Bytes by phase", `${each}Calls on the chain, and updates, evaluators' rows and models in the store; messages and openings there are not counted.`,
      (w) => bars(runs(), (c) => (c.chain_bytes === null ? null : c.chain_bytes + (c.store_bytes || 0)), bytesText, w)),
    figure("Seconds by phase", () => (runs().some((r) => r.costs.some((c) => c.seconds !== null)) ? `${each}Of this machine's clock, all members together.` : "By the chain's clock: this machine's was not taken."),
      (w) => bars(runs(), (c) => (runs().some((r) => r.costs.some((x) => x.seconds !== null)) ? c.seconds : c.chain_seconds), secondsText, w)),
    figure("Numbers", "", () => h("div", null, table(["phase", "#gas", "#bytes on the chain", "#bytes in the store", "#seconds", "#chain's seconds"],
      run().costs.map((c) => [c.phase, c.gas === null ? "" : number.format(c.gas), c.chain_bytes === null ? "" : number.format(c.chain_bytes),
        c.store_bytes === null ? "" : number.format(c.store_bytes), c.seconds === null ? "" : c.seconds.toFixed(2), number.format(c.chain_seconds)])),
    run().gas_by_call.length ? numbers("Gas by call", ["call", "#gas"], run().gas_by_call.map(([name, gas]) => [name, number.format(gas)])) : null)),
  ];
}

function flowPanel() {
  return [figure("Who can read what", () => "Red is what one member's data give away in plaintext to other organisations. Sealed and masked is what passes, and nobody on the way can read.", (w) => h("div", null, flow(run(), w),
    table(["what", "who can read it", "#in the store", "#bytes"], run().flows.map((f) => [
      h("span", { class: f.crosses ? "red" : null }, f.what), f.who, f.count === null ? "" : number.format(f.count), f.bytes === null ? "" : bytesText(f.bytes)]))))];
}

function evidencePanel() {
  return [figure("The chain of evidence", () => auditText(), () => {
    const a = run().anchor;
    return h("div", null, run().audited && run().audited.findings.length ? h("ul", { class: "findings" }, run().audited.findings.map((f) => h("li", null, f))) : null,
      chain(run()), run().audited && run().audited.unproven ? h("p", { class: "note" }, `Not checked: ${run().audited.unproven}`) : null,
      h("dl", { class: "facts digests" }, [["contract", `${a.contract} on chain ${a.chain_id}`], ["terms", a.terms], ["block", `${a.block} ${a.block_hash}`], ["model", `sha256 ${a.model}`]]
        .map(([label, text]) => h("div", null, h("dt", null, label), h("dd", null, text)))));
  })];
}

function auditText() {
  const r = run();
  const subject = r.kind === "run" ? r.subject : "FEDERATION";
  if (!r.audited) return `Nobody has checked it yet: every link is grey. Check it with: hansa audit ${subject}`;
  return `As an audit by ${r.audited.program} said on ${moment(r.audited.at)}, in the words that it left beside the run. Whoever does not trust this file makes it again: hansa audit ${subject}`;
}

const moment = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";

// The frame

function banner() {
  const r = run();
  const last = r.rounds.filter((x) => x.value !== null).at(-1);
  const b = r.baselines;
  const stat = (value, label, css) => h("div", { class: css }, h("dd", null, value), h("dt", null, label));
  const tail = (key) => (b[key].length ? metricText(r.metric, b[key].at(-1)) : null);
  const state = { killed: "stopped or killed", "at work": "at work", running: "running" }[r.state];
  const what = several() ? plural(view.runs.length, "run") : h("span", null, h("b", { class: "badge" }, r.scheme.toUpperCase()), r.simulated && h("span", { class: "badge soft" }, "simulated"),
    r.seed !== null && h("span", { class: "badge soft" }, `seed ${r.seed}`), state && h("span", { class: "badge soft" }, state),
    h("span", { class: "badge soft" }, r.audited ? `audit: ${auditWord(r)}` : "not audited"));
  return [
    h("p", { class: "kicker" }, several() ? "Hansa · comparison of runs" : `Hansa · report of a ${r.kind}`),
    h("h1", null, [...new Set(view.runs.map((x) => x.name))].join(", ")),
    h("p", { class: "badges" }, what),
    view.runs.some((x) => x.protection && x.protection.includes("NO HARDWARE")) &&
      h("p", { class: "warning" }, h("b", null, "NO HARDWARE PROTECTION"), " — enclaves are simulated: whoever hosts one can read what is sealed to it."),
    !several() && h("p", { class: "lead" }, `${r.outcome[0].toUpperCase()}${r.outcome.slice(1)}${r.failed ? `; ${plural(r.failed, "round")} failed` : ""}. `,
      r.phase !== "STOPPED" && r.phase !== "IDLE" && r.phase !== "PAUSED" && `Round ${r.round}, ${r.phase}${r.waiting ? `: waiting for ${r.waiting}` : ""}.`),
    !several() && last && h("dl", { class: "stats" }, stat(metricText(r.metric, last.value), `held-out ${r.metric}`, "main"),
      tail("alone_mean") && stat(tail("alone_mean"), "members alone, mean"), tail("fedavg_unprotected") && stat(tail("fedavg_unprotected"), "FedAvg, unprotected"),
      tail("pooled") && stat(tail("pooled"), "all data pooled")),
    r.absent.length > 0 && h("ul", { class: "absent" }, r.absent.map((text) => h("li", null, text))),
  ];
}

function build() {
  const tabs = TABS.map(([key, title]) => h("button", { role: "tab", id: `tab-${key}`, "aria-controls": `panel-${key}`, type: "button", onclick: () => select(key) }, title));
  const bar = h("div", { role: "tablist", "aria-label": "Parts of the report", onkeydown: (event) => {
    const at = TABS.findIndex(([key]) => key === view.tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select(TABS[(to + TABS.length) % TABS.length][0]);
    document.getElementById(`tab-${view.tab}`).focus();
  } }, tabs);
  const head = h("header", { id: "head" });
  const note = h("p", { id: "live", role: "status" });
  const choice = several() && h("div", { class: "control" }, h("label", { for: "which" }, "Details of"), h("select", { id: "which", onchange: (e) => {
    view.run = Number(e.target.value);
    view.round = newest();
    update();
  } }, view.runs.map((r, k) => h("option", { value: k }, r.label))));
  const panels = TABS.map(([key, title, panel]) => h("section", { role: "tabpanel", id: `panel-${key}`, "aria-labelledby": `tab-${key}` }, h("h2", { class: "print-only" }, title), panel()));
  figures.push({ needs: "facts", redraw: () => {
    head.replaceChildren(...banner().filter(Boolean));
    note.textContent = view.live ? view.trouble || `live · ${run().running === false || run().finished ? "at its end" : "following"} · as of ${moment(run().made)}` : "";
  } });
  root.replaceChildren(h("a", { class: "skip", href: "#panels" }, "Skip to the charts"), theme(), head, note, bar, choice || "", h("main", { id: "panels" }, panels),
    h("footer", null, `Made by ${run().program} on ${moment(run().made)}. This page asks nobody for anything${view.live ? " but the server on this machine" : ""}.`), tip);
}

function select(key) {
  view.tab = TABS.some(([k]) => k === key) ? key : "overview";
  for (const [k] of TABS) {
    const tab = document.getElementById(`tab-${k}`);
    tab.setAttribute("aria-selected", String(k === view.tab));
    tab.setAttribute("tabindex", k === view.tab ? "0" : "-1");
    document.getElementById(`panel-${k}`).classList.toggle("off", k !== view.tab);
  }
  hideTip();
  if (location.hash !== `#${view.tab}`) history.replaceState(null, "", `#${view.tab}`);
}

const THEMES = { auto: "as the system", light: "light", dark: "dark" };

function theme() {
  const kept = (() => { try { return localStorage.getItem("hansa-theme"); } catch { return null; } })();
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    button.textContent = `theme: ${THEMES[name]}`;
    try { localStorage.setItem("hansa-theme", name); } catch { /* a file may have no storage */ }
  };
  const button = h("button", { id: "theme", type: "button", onclick: () => {
    const names = Object.keys(THEMES);
    set(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
  } });
  set(kept in THEMES ? kept : "auto");
  return button;
}

// Facts

function take(told) {
  const strange = told.runs.find((r) => r.version !== VERSION);
  if (strange || !told.runs.length) throw new Error(`these facts are of version ${strange && strange.version}, this page reads ${VERSION}`);
  const short = told.runs.map((r) => r.subject.split("/").filter(Boolean).at(-1) || r.name);
  told.runs.forEach((r, k) => {
    const namesakes = told.runs.filter((x) => x.subject === r.subject);
    r.label = short.filter((x) => x === short[k]).length === 1 ? short[k] : r.subject + (namesakes.length > 1 ? ` (${namesakes.indexOf(r) + 1})` : "");
  });
  const following = view.round === null || view.round === newest();
  [view.runs, view.live] = [told.runs, told.live];
  if (following) view.round = newest();
}

function update() {
  document.title = `${run().name} · Hansa report`;
  redraw();
}

async function follow() {
  let tag = "";
  for (;;) {
    await new Promise((wake) => setTimeout(wake, document.hidden ? 10000 : 2000));
    try {
      const answer = await fetch("facts.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 304) continue;
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.error);
      tag = answer.headers.get("ETag") || "";
      view.trouble = "";
      take(told);
      update();
    } catch (error) {
      view.trouble = `not up to date: ${error instanceof TypeError ? "the server does not answer" : error.message}`;
      document.getElementById("live").textContent = view.trouble;
    }
  }
}

function begin() {
  try {
    take(JSON.parse(document.getElementById("facts").textContent));
  } catch (error) {
    root.replaceChildren(empty(`This report cannot be shown: ${error.message}.`));
    return;
  }
  build();
  select(location.hash.slice(1));
  update();
  let width = root.clientWidth;
  new ResizeObserver(() => {
    if (root.clientWidth !== width) {
      width = root.clientWidth;
      redraw();
    }
  }).observe(root);
  addEventListener("hashchange", () => select(location.hash.slice(1)));
  if (view.live) follow();
}

view.runs = [{ rounds: [] }];
begin();
