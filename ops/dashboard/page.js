// The page: asks the operators' API of the app that served it, and shows the answers.
// Text from the feed only ever becomes text: nothing here makes markup of a string.

const EVERY = 30_000; // milliseconds between two looks
const DAY = 24; // hours that bars and plots show
const ROWS = 50; // rows of a list at first
const RUNS = 200; // the most that the API lists
const PAGE = 1000; // the most rows of one answer of the API
const NAMES = 500; // the most names of one act
const NOTE = 300; // the longest note of an act

const $ = (id) => document.getElementById(id);
const kept = (name) => sessionStorage.getItem(name) ?? "";

// --- the API -------------------------------------------------------------------------------

class ApiError extends Error {
  constructor(status, text, byApp = false) {
    super(text);
    this.status = status;
    this.byApp = byApp; // the app's own words; the host refuses a key without any
  }
}

async function call(method, path, given = {}, accept = "application/json") {
  const headers = { accept };
  if (kept("key")) headers["x-functions-key"] = kept("key");
  if (kept("operator")) headers["x-operator"] = encodeURIComponent(kept("operator"));
  const options = { method, headers, cache: "no-store", redirect: "error" };
  let address = `/api/${path}`;
  if (method === "POST") {
    options.body = JSON.stringify(given);
    headers["content-type"] = "application/json";
  } else if (Object.keys(given).length) {
    address += `?${new URLSearchParams(given)}`;
  }
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new ApiError(0, "the app cannot be reached from here");
  }
  const text = await response.text();
  if (response.ok) return accept === "text/csv" ? text : JSON.parse(text);
  let said = "";
  try {
    said = JSON.parse(text).error;
  } catch {
    /* the host's own answers have no body */
  }
  throw new ApiError(response.status, said || `the app answered ${response.status}`, Boolean(said));
}

// --- making elements -----------------------------------------------------------------------

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.map((child) => child ?? ""));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const whole = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" });

function exact(shown, precise) {
  return make("span", { class: "exact", tabindex: "0", "data-exact": precise, title: precise }, shown);
}

function number(value) {
  if (value === null || value === undefined) return "–";
  return value < 10_000 ? whole.format(value) : exact(compact.format(value), whole.format(value));
}

function time(text) {
  if (!text) return "–";
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? text : exact(moment.format(at), text);
}

function count(many, one, several) {
  return `${whole.format(many)} ${many === 1 ? one : several}`;
}

function table(caption, columns, rows, empty) {
  if (!rows.length) return make("p", {}, empty);
  const head = columns.map(([title, , kind]) => make("th", { scope: "col", class: kind ?? null }, title));
  const body = rows.map((row) =>
    make("tr", {}, ...columns.map(([, cell, kind]) => make("td", { class: kind ?? null }, cell(row)))),
  );
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)),
  );
}

// What was opened in a place stays open when the place is shown again.
function fold(place, summary, content) {
  const isOpen = $(place).querySelector("details")?.open;
  return make("details", { open: isOpen ? "" : null }, make("summary", {}, summary), content);
}

const button = (text, onclick, kind = null) => make("button", { type: "button", class: kind, onclick }, text);

// --- what is shown -------------------------------------------------------------------------

let acts = null; // what this key may do; null while that is not known

const may = (path) => acts !== null && acts.has(`act/${path}`);

// Shows what is so now; returns false where the key does not let in.
async function refresh() {
  try {
    const early = call("GET", "read/pulses", { hours: DAY });
    if (!$("word").textContent) showLastPulse((await early).pulses);
    const [status, pulses, unknown] = await Promise.all([call("GET", "read/status", { runs: RUNS }), early, learnActs()]);
    showFeed();
    showVerdict(status, pulses.pulses);
    showRuns(status.runs, status.now);
    showFlow(pulses.pulses);
    $("trouble").textContent = unknown;
    const [ended, poison, rejections, done] = await Promise.all([
      call("GET", "read/problems", { ended: true }),
      call("GET", "read/poison", { limit: ROWS }),
      call("GET", "read/rejections", { limit: ROWS }),
      call("GET", "read/acts", { limit: 20 }),
    ]);
    showProblems(status.problems, ended.problems);
    showPoison(poison);
    showRejections(rejections);
    showActs(done.acts);
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      if (error.byApp) askToSignIn(error);
      else askForKey(kept("key") ? "This key is not valid for this app, or was changed." : "");
      return false;
    }
    if (error.status === 0 && $("feed").hidden) {
      askForKey(error.message);
      return false;
    }
    showFeed();
    $("trouble").textContent = `Not up to date: ${error.message}`;
  }
  return true;
}

function showFeed() {
  $("sign-in").hidden = true;
  $("feed").hidden = false;
  $("forget").hidden = !kept("key");
}

// The status of a full ledger takes seconds, the newest pulse does not: it comes first.
function showLastPulse(pulses) {
  if (!pulses.length || $("word").textContent) return;
  showWord(pulses[0].verdict);
  $("as-of").replaceChildren("as of the last tick, ", time(pulses[0].at));
  $("findings").replaceChildren(make("li", {}, "Asking why …"));
  showFeed();
}

function showWord(verdict) {
  $("verdict").dataset.word = verdict;
  $("word").textContent = verdict.toUpperCase();
  document.title = `${verdict} · Lumen to Sentinel`;
}

function showVerdict(status, pulses) {
  showWord(status.health);
  $("findings").replaceChildren(...status.findings.map((finding) => make("li", {}, finding)));
  $("as-of").replaceChildren("as of ", time(status.now));
  const day = (name) => pulses.reduce((sum, pulse) => sum + (pulse[name] ?? 0), 0);
  const newest = pulses[0] ?? {};
  const drain = status.drain_minutes;
  const chunks = status.queue_depth === 1 ? "chunk" : "chunks";
  const steps = [
    ["Lumen", day("fetched"), "listed in a day"],
    ["Producer", day("enqueued"), "enqueued in a day"],
    ["Queue", status.queue_depth, drain === null ? `${chunks}; nothing is accepted now` : `${chunks}; ${whole.format(drain)} min to drain`],
    ["Consumer", newest.rate_per_minute, "accepted a minute"],
    ["Sentinel", day("accepted"), "accepted in a day"],
    ["Arrived", status.arrival.arrived, arrivedOf(status.arrival)],
  ];
  $("pipeline").replaceChildren(
    ...steps.map(([name, value, what]) =>
      make("li", {}, make("b", {}, name), make("span", { class: "number" }, number(value)), ` ${what}`),
    ),
  );
  $("controls").replaceChildren(...controls(status));
}

function arrivedOf(arrival) {
  if (arrival.off) return "not asked: ARRIVAL_CHECK is false";
  if (arrival.sampled === null) return "not known yet";
  const seconds = arrival.arrived_after_seconds;
  return `of a sample of ${whole.format(arrival.sampled)}${seconds === null ? "" : `, ${whole.format(seconds)} s after acceptance`}`;
}

function controls(status) {
  const found = [];
  if (may("sync")) {
    found.push(button("Sync now", () => run("Sync now", "A sync run starts within seconds, unless one is under way.", "Start", "sync", {})));
  }
  if (status.paused_until && may("resume")) {
    found.push(button("Resume", () => run("Resume", "Runs and uploads go on.", "Resume", "resume", {})));
  } else if (may("pause")) {
    found.push(button("Pause for an hour", () => {
      const until = new Date(Date.now() + 3_600_000).toISOString();
      run("Pause", "No run starts and nothing is uploaded for an hour; then the feed goes on by itself. Nothing is lost.", "Pause", "pause", { until });
    }));
  }
  return found;
}

const FATES = ["accepted", "rejected", "struck", "unchanged"];

function showRuns(runs, now) {
  const since = new Date(now) - DAY * 3_600_000;
  const shown = runs.filter((run) => new Date(run.started_at) >= since).reverse();
  if (!shown.length) return $("runs").replaceChildren(make("p", {}, "no run in the last day"));
  const most = Math.max(1, ...shown.map((run) => FATES.reduce((sum, fate) => sum + run[fate], 0)));
  const bars = shown.flatMap((run, at) => {
    let top = 100;
    return FATES.map((fate) => {
      const height = (100 * run[fate]) / most;
      top -= height;
      return draw("rect", { x: at + 0.1, y: top, width: 0.8, height, class: fate });
    });
  });
  const label = `${count(shown.length, "run", "runs")}; the largest has ${whole.format(most)} indicators`;
  const picture = draw("svg", { viewBox: `0 0 ${Math.max(shown.length, 12)} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...bars);
  const legend = make("p", { class: "legend" }, ...FATES.map((fate) => make("span", { class: fate }, fate)));
  const numbers = table("Runs", [
    ["started", (run) => time(run.started_at)],
    ["state", (run) => run.state],
    ["fetched", (run) => number(run.fetched), "number"],
    ...FATES.map((fate) => [fate, (run) => number(run[fate]), "number"]),
    ["pending", (run) => number(run.pending), "number"],
    ["balanced", (run) => (run.balanced ? "yes" : "NO")],
    ["reason", (run) => run.reason, "long"],
  ], [...shown].reverse().slice(0, 12), "no run");
  $("runs").replaceChildren(picture, legend, fold("runs", "The latest twelve as numbers", numbers));
}

function showFlow(pulses) {
  const points = [...pulses].reverse();
  const plots = [
    ["Backlog, in messages", "backlog"],
    ["Accepted a minute", "rate_per_minute"],
    ["From listed to accepted, in seconds", "accepted_after_seconds"],
  ].map(([title, name]) => plot(title, points.map((pulse) => [new Date(pulse.at), pulse[name]])));
  $("flow").replaceChildren(...(points.length ? plots : [make("p", {}, "no pulse yet: the first comes with the first tick")]));
}

function plot(title, points) {
  const known = points.filter(([, value]) => value !== null && value !== undefined);
  const last = known.length ? known[known.length - 1][1] : null;
  const most = Math.max(1, ...known.map(([, value]) => value));
  const label = known.length ? `${title}: now ${whole.format(last)}, at most ${whole.format(most)} in a day` : `${title}: not known yet`;
  const [first, end] = points.length ? [points[0][0], points[points.length - 1][0]] : [0, 1];
  const span = Math.max(1, end - first);
  const line = known.map(([at, value], index) => `${index ? "L" : "M"}${(100 * (at - first)) / span} ${98 - (96 * value) / most}`).join("");
  const picture = draw("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": label }, draw("path", { d: known.length === 1 ? `${line}h0.5` : line }));
  return make("figure", {}, make("figcaption", {}, label), picture);
}

function showProblems(open, ended) {
  const columns = [
    ["kind", (problem) => problem.kind],
    ["since", (problem) => time(problem.since)],
    ["what, and what to do", (problem) => problem.what, "long"],
  ];
  const acknowledge = (problem) =>
    problem.kind === "gap" && may("ack")
      ? button("Acknowledge", () => run("Acknowledge", `The status says no more about the gap of run ${problem.subject}.`, "Acknowledge", "ack", { runs: [problem.subject] }))
      : "";
  const over = table("Ended", [...columns, ["until", (problem) => time(problem.until)]], ended, "none has ended lately");
  $("problems").replaceChildren(
    table("Open", [...columns, ["", acknowledge]], open, "no problem"),
    ended.length ? fold("problems", `Ended: ${whole.format(ended.length)}`, over) : over,
  );
}

function showPoison(found) {
  const groups = table("By reason", [
    ["reason", (group) => group.reason, "long"],
    ["messages", (group) => number(group.messages), "number"],
    ["indicators", (group) => number(group.indicators), "number"],
    ["first", (group) => time(group.first_at)],
    ["last", (group) => time(group.last_at)],
    ["", (group) => make("span", { class: "buttons" }, ...poisonButtons({ reason: group.reason }, group.messages), button("Sample", () => showSample(group.sample)))],
  ], found.groups, "no poison");
  const parts = [groups];
  if (found.groups.length > 1) parts.push(make("p", { class: "buttons" }, ...poisonButtons({ all: true }, found.total)));
  $("poison").replaceChildren(...parts);
}

function poisonButtons(chosen, messages) {
  const which = chosen.all ? `all ${whole.format(messages)}` : "these";
  const offer = (verb, path, kind) => (may(path) ? [button(`${verb} ${which}`, () => repair(verb, path, chosen, `${verb} ${which}`), kind)] : []);
  return [...offer("Replay", "poison/replay"), ...offer("Discard", "poison/discard", "danger")];
}

async function showSample(name) {
  const turn = open("Sample", name);
  try {
    const record = await call("GET", `read/poison/${encodeURI(name)}`);
    const history = table("History", [["at", (row) => time(row.at)], ["reason", (row) => row.reason, "long"]], record.history, "no earlier failure");
    const records = table("Indicators", [["indicator", (row) => row.indicator, "long"], ["pattern", (row) => row.pattern, "long"], ["state", (row) => row.is], ["Sentinel's words", (row) => row.words, "long"]], record.records, "its message cannot be read");
    say(turn, { result: [make("p", {}, record.reason), history, records] });
  } catch (error) {
    say(turn, { result: [error.message] });
  }
}

function showRejections(found) {
  // Beyond the rows that are shown only the look of the act itself can tell who refused a record.
  const isRefused = found.total > found.rejections.length || found.rejections.some((row) => row.by === "sentinel");
  const retry = may("rejections/retry") && isRefused;
  const which = found.total > PAGE ? `Download the newest ${whole.format(PAGE)} as CSV` : "Download as CSV";
  $("rejections").replaceChildren(
    table(`${count(found.total, "record", "records")}, the newest first`, [
      ["at", (row) => time(row.at)],
      ["by", (row) => row.by],
      ["indicator", (row) => row.indicator, "long"],
      ["pattern", (row) => row.pattern, "long"],
      ["reason", (row) => row.reason, "long"],
    ], found.rejections, "no rejection"),
    make("p", { class: "buttons" },
      found.total ? button(which, () => download(found.total)) : "",
      retry ? button("Retry all that Sentinel refused", () => repair("Retry", "rejections/retry", { all: true }, "Retry all that Sentinel refused")) : ""),
  );
}

async function download(total) {
  const turn = open("Download as CSV", "Asking …");
  try {
    const text = await call("GET", "read/rejections", { limit: PAGE }, "text/csv");
    if (turn !== current) return;
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "rejections.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
    const rest = `The file has the newest ${whole.format(PAGE)} of ${whole.format(total)} records; lumen-sentinel rejections --csv prints all.`;
    say(turn, { text: total > PAGE ? rest : "The file has all records." });
  } catch (error) {
    say(turn, { text: `Not downloaded: ${error.message}` });
  }
}

function showActs(rows) {
  $("acts").replaceChildren(
    table("The latest", [
      ["at", (act) => time(act.at)],
      ["by", (act) => act.by],
      ["act", (act) => `${act.act} ${act.on}`, "long"],
      ["note", (act) => act.note, "long"],
      ["result", (act) => act.result || "under way, or cut short", "long"],
    ], rows, "no act is on record yet"),
  );
}

// --- acts: say what would happen, ask, do that in slices with progress -----------------------------

let current = 0; // counts openings and closings: work of a dialog that was closed stops behind its slice

function open(title, text) {
  current += 1;
  $("dialog-title").textContent = title;
  $("dialog-text").textContent = text;
  $("dialog-result").replaceChildren();
  $("dialog-progress").hidden = true;
  $("dialog-yes").hidden = true;
  $("dialog").showModal();
  return current;
}

// All that acts write goes through here: what comes for a dialog that was closed is not shown.
function say(turn, { text, result, done, all }) {
  if (turn !== current) return;
  if (text !== undefined) $("dialog-text").textContent = text;
  if (result !== undefined) $("dialog-result").replaceChildren(...result);
  if (all !== undefined) Object.assign($("dialog-progress"), { hidden: false, max: all, value: done });
}

function confirm(turn, text, yes, then) {
  if (turn !== current) return;
  say(turn, { text });
  $("dialog-yes").textContent = yes;
  $("dialog-yes").hidden = false;
  $("dialog-yes").onclick = () => {
    $("dialog-yes").hidden = true;
    then();
  };
}

function run(title, text, yes, path, given) {
  const turn = open(title, text);
  confirm(turn, text, yes, async () => {
    try {
      say(turn, { result: [outcome(await call("POST", `act/${path}`, given))] });
    } catch (error) {
      say(turn, { result: [`Not done: ${error.message}`] });
    }
    refresh();
  });
}

function outcome(answer) {
  if (answer.handled) return answer.handled.map((row) => `Run ${row.run}: ${row.result}.`).join(" ");
  return answer.was_paused === false ? "It was not paused any more." : "Done.";
}

// Does an act with one choice after the other, each in slices.
async function slices(path, choices, turn, each) {
  for (const given of choices) {
    let after = "";
    do {
      if (turn !== current) return;
      const answer = await call("POST", `act/${path}`, { ...given, after });
      each(answer);
      after = answer.next;
    } while (after);
  }
}

const nameOf = (row) => row.poison ?? row.rejection;

// Only names choose what was looked at: behind `all` and `reason` there may be more by now.
function byName(names, more) {
  const choices = [];
  for (let at = 0; at < names.length; at += NAMES) choices.push({ ...more, names: names.slice(at, at + NAMES) });
  return choices;
}

// The API finds a text within reasons; a group is of one whole reason.
async function namesOf(reason, turn) {
  const names = [];
  let after = "";
  do {
    const page = await call("GET", "read/poison", { reason, limit: PAGE, after });
    names.push(...page.poison.filter((row) => row.reason === reason).map(nameOf));
    after = page.next;
  } while (after && turn === current);
  return names;
}

async function repair(verb, path, chosen, label) {
  const turn = open(verb, "Looking what would happen …");
  const totals = new Map();
  const names = [];
  try {
    const group = chosen.all ? [] : await namesOf(chosen.reason, turn);
    const choices = chosen.all ? [{ all: true, dryRun: true }] : byName(group, { dryRun: true });
    await slices(path, choices, turn, (answer) => {
      add(totals, answer.totals);
      names.push(...answer.handled.map(nameOf));
      const all = Math.max(group.length, names.length + answer.remaining);
      say(turn, { text: `Looking what would happen: ${whole.format(names.length)} of ${whole.format(all)} …` });
    });
    if (!names.length) return say(turn, { text: "There is nothing to do." });
    const final = verb === "Discard" ? " This is final: only a newer version, or a full sync while Lumen still lists them, brings the indicators back." : "";
    const note = (chosen.all ? label : `${label}: ${chosen.reason}`).slice(0, NOTE);
    confirm(turn, `${words(totals)}.${final}`, `${verb} ${whole.format(names.length)}`, () => work(path, names, note, turn));
  } catch (error) {
    say(turn, { text: `Cannot tell: ${error.message}` });
  }
}

async function work(path, names, note, turn) {
  const all = names.length;
  const totals = new Map();
  const rows = [];
  say(turn, { done: 0, all });
  try {
    await slices(path, byName(names, { note }), turn, (answer) => {
      add(totals, answer.totals);
      rows.push(...answer.handled);
      say(turn, { text: `${whole.format(rows.length)} of ${whole.format(all)} …`, done: rows.length, all });
    });
    say(turn, { text: `${words(totals)}.` });
  } catch (error) {
    say(turn, { text: `Stopped: ${error.message}. What was not done yet is as it was; do it again to go on.` });
  }
  const each = table("Results", [["name", nameOf, "long"], ["result", (row) => row.result]], rows.slice(0, 1000), "none");
  say(turn, { result: [make("details", {}, make("summary", {}, "Result of each"), each)] });
  refresh();
}

function add(totals, some) {
  for (const [what, many] of Object.entries(some)) totals.set(what, (totals.get(what) ?? 0) + many);
}

const words = (totals) => [...totals].map(([what, many]) => `${whole.format(many)} ${what}`).join(", ");

// --- asking --------------------------------------------------------------------------------

let asked = 0; // counts questions: an answer that comes behind a newer question is not shown

async function ask(place, path, given, show) {
  const turn = (asked += 1);
  $(place).dataset.turn = turn;
  $(place).replaceChildren(make("p", {}, "Asking …"));
  let shown;
  try {
    shown = show(await call("GET", path, given));
  } catch (error) {
    shown = [make("p", {}, error.message)];
  }
  if ($(place).dataset.turn === String(turn)) $(place).replaceChildren(...shown);
}

function found(answer) {
  const { workspace, ledger } = answer;
  const held = table("In Sentinel", [
    ["indicator", (row) => row.indicator, "long"],
    ["value", (row) => row.value, "long"],
    ["state", (row) => row.state],
    ["confidence", (row) => number(row.confidence), "number"],
    ["valid until", (row) => time(row.valid_until)],
    ["modified", (row) => time(row.modified)],
    ["newest row", (row) => time(row.seen_at)],
  ], workspace.held, "Sentinel: nothing from Lumen in the last 30 days");
  const known = table("In the ledger", [
    ["indicator", (one) => one.indicator, "long"],
    ["is", (one) => one.is],
    ["what is known", (one) => make("span", {}, one.what, earlier(one.traces)), "long"],
  ], ledger.indicators, "Ledger: it knows ids alone, and there is none to look for");
  const notes = [];
  if (workspace.has_more) notes.push(make("p", {}, "Sentinel holds more than is shown."));
  if (ledger.has_more) notes.push(make("p", {}, "More ids are known than the ledger was asked about: find one by its id."));
  if (!ledger.is_whole) notes.push(make("p", {}, "Not all of the ledger could be read: ask again."));
  return [workspace.was_asked ? held : make("p", {}, `Sentinel was not asked: ${workspace.why_not}`), known, ...notes];
}

function earlier(traces) {
  if (traces.length < 2) return "";
  return make("ul", {}, ...traces.slice(1).map((trace) => make("li", {}, `${trace.is}: ${trace.what}`)));
}

const STATES = ["problem", "not asked", "ok"]; // of a check, the most urgent first

function checkup({ is_well: isWell, lines }) {
  const inState = (state) => lines.filter((line) => line.state === state).length;
  const [problems, skipped] = [inState("problem"), inState("not asked")];
  const bad = `${whole.format(problems)} of ${count(lines.length, "check", "checks")} ${problems === 1 ? "needs" : "need"} attention`;
  const verdict = `${isWell ? "All is well" : bad}${skipped ? `; ${whole.format(skipped)} not asked` : ""}.`;
  const sorted = [...lines].sort((one, other) => STATES.indexOf(one.state) - STATES.indexOf(other.state));
  const checks = table("Checks", [
    ["state", (line) => line.state],
    ["check", (line) => line.name],
    ["what was found", (line) => line.text, "long"],
    ["what to do", (line) => line.remedy, "long"],
  ], sorted, "nothing was checked");
  return [make("p", {}, verdict), checks];
}

// --- start ---------------------------------------------------------------------------------

function hideFeed(said) {
  sessionStorage.removeItem("key");
  clearInterval(timer);
  $("word").textContent = "";
  $("feed").hidden = true;
  $("forget").hidden = true;
  $("sign-in").hidden = false;
  $("key-error").textContent = said;
}

// With Entra the app asks for no key: App Service signs people in and comes back.
function askToSignIn(error) {
  hideFeed(error.status === 403 ? error.message : "");
  $("by-key").hidden = true;
  $("by-entra").hidden = false;
}

function askForKey(said) {
  hideFeed(said);
  $("by-key").hidden = false;
  $("by-entra").hidden = true;
  $("operator").value = kept("operator");
  $("key").value = "";
  $("key").focus();
}

let timer = 0;

// Returns why the acts are not known; the next refresh asks again.
async function learnActs() {
  if (acts !== null) return "";
  try {
    acts = new Set((await call("GET", "act")).acts);
  } catch (error) {
    if (error.status !== 401 && error.status !== 403) return `Not known what this key may do: ${error.message}`;
    acts = new Set(); // a reading key
  }
  return "";
}

async function start() {
  acts = null;
  if (!(await refresh())) return;
  clearInterval(timer);
  timer = setInterval(refresh, EVERY);
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key").value.trim());
  sessionStorage.setItem("operator", $("operator").value.trim());
  start();
});
$("doctor").addEventListener("click", () => ask("answers", "read/doctor", {}, checkup));
$("find-form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask("found", "read/find", { q: $("find").value }, found);
});
$("forget").addEventListener("click", () => askForKey(""));
$("dialog-no").addEventListener("click", () => $("dialog").close());
$("dialog").addEventListener("close", () => {
  if (!$("dialog").open) current += 1; // it comes late: the next dialog may be open already
});

start();
