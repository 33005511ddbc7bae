// Grading: a mosaic of all candidates, and one at a time. The server knows; the page shows, and moves on when it answered.
const $ = id => document.getElementById(id);
const AHEAD = 4, GAP = 6, MARGIN_ROWS = 2, SETTLED = 90;  // ms a tile stays while one scrolls before its picture is asked for
let state, grades, views, names;          // names: grade → its number in the scheme, 0 the lowest
let place = 0, view = 0, gain = 0, contrast = 0, busy = false, shownAt = 0, looked = 0, crisp = false, noteOf = "";
let listed = [], focus = 0, mosaicView = 0, dead = false, current = null;
const preloaded = new Map();

// Whatever comes from outside goes into the page as text, never as markup.
function make(tag, kind, ...parts) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  node.append(...parts);
  return node;
}
const whole = n => n.toLocaleString("en");
const kind = grade => "k" + Math.min(names.get(grade), 3);
const address = (n, v, g = 0) => `picture/${n}/${views[v].name}/${g}.png`;

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body === undefined ? {} : {method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}});
  } catch {
    dead = true;
    throw new Error(`The server does not answer: it was stopped, or the tunnel is down. Every grade it confirmed is on disk, in ${state ? state.file : "the run"}. Start 'survey_scan grade' again and open the address it prints.`);
  }
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}
function trouble(error) { $("trouble").hidden = !error; $("trouble").textContent = error ? error.message : ""; }

// ---------------------------------------------------------------- which places are listed
function matches(n) {
  const wanted = $("filter").value, grade = grades[n - 1];
  if (wanted === "all") return true;
  if (wanted === "none") return !grade;
  return grade !== "" && names.get(grade) >= Number(wanted);
}
function step(from, by) {
  for (let n = from + by; n >= 1 && n <= grades.length; n += by) if (matches(n)) return n;
  return 0;
}
function list() {
  listed = [];
  for (let n = 1; n <= grades.length; n++) if (matches(n)) listed.push(n);
  $("found").textContent = listed.length === grades.length ? "" : `${whole(listed.length)} of ${whole(grades.length)}`;
}
function progress() {
  const done = grades.reduce((sum, grade) => sum + (grade !== ""), 0), share = done / grades.length;
  $("progress").textContent = `${whole(done)} of ${whole(grades.length)} graded · ${state.grader}`;
  $("bar").firstElementChild.style.width = 100 * share + "%";
  $("bar").setAttribute("aria-valuemax", grades.length);
  $("bar").setAttribute("aria-valuenow", done);
}

// ---------------------------------------------------------------- the mosaic: only the tiles in sight are in the page
const tiles = new Map();
let scrolledAt = -1e9, later = 0;
function layout() {
  const side = Number($("size").value), width = $("scroll").clientWidth - parseFloat(getComputedStyle($("scroll")).paddingLeft) * 2;
  const columns = Math.max(1, Math.floor((width + GAP) / (side + GAP)));
  return {side, columns, pitch: side + GAP, left: Math.max(0, (width - columns * (side + GAP) + GAP) / 2)};
}
function draw() {
  if ($("all").hidden) return;
  const {side, columns, pitch, left} = layout(), rows = Math.ceil(listed.length / columns), box = $("scroll");
  $("grid").style.height = rows * pitch + 4 + "px";
  const first = Math.max(0, Math.floor(box.scrollTop / pitch) - MARGIN_ROWS) * columns;
  const last = Math.min(listed.length, (Math.ceil((box.scrollTop + box.clientHeight) / pitch) + MARGIN_ROWS) * columns);
  const wanted = new Set(listed.slice(first, last)), now = performance.now(), scrolling = now - scrolledAt < SETTLED;
  if (scrolling) { clearTimeout(later); later = setTimeout(redraw, SETTLED + 10); }
  for (const [n, tile] of tiles) if (!wanted.has(n)) {
    if (document.activeElement === tile.button) box.focus({preventScroll: true});
    tile.image.removeAttribute("src");
    tile.button.remove();
    tiles.delete(n);
  }
  for (let i = first; i < last; i++) {
    const n = listed[i];
    let tile = tiles.get(n);
    if (!tile) {
      tile = {image: make("img"), corner: make("span", "corner"), button: make("button", "tile"), source: "", since: now};
      tile.image.alt = "";
      tile.image.draggable = false;
      tile.image.addEventListener("error", () => { if (tile.image.getAttribute("src")) tile.button.replaceChildren(make("span", "nothing", "no picture"), tile.corner); });
      tile.button.type = "button";
      tile.button.dataset.place = n;
      tile.button.append(tile.image, tile.corner);
      tiles.set(n, tile);
      $("grid").append(tile.button);
    }
    const style = tile.button.style, grade = grades[n - 1], source = address(n, mosaicView);
    style.width = style.height = side + "px";
    style.left = left + (i % columns) * pitch + "px";
    style.top = 2 + Math.floor(i / columns) * pitch + "px";
    if (tile.source !== source && (!scrolling || now - tile.since > SETTLED)) tile.image.src = tile.source = source;
    tile.corner.hidden = !grade;
    tile.corner.className = "corner " + (grade ? kind(grade) : "");
    tile.corner.textContent = grade;
    tile.button.tabIndex = i === focus ? 0 : -1;
    tile.button.setAttribute("aria-label", `Candidate ${n}, ${grade ? "grade " + grade : "no grade"}`);
  }
}
let drawing = false;
function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
}
function bringIntoView(index) {
  const {columns, pitch} = layout(), top = Math.floor(index / columns) * pitch, box = $("scroll");
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + pitch > box.scrollTop + box.clientHeight) box.scrollTop = top + pitch - box.clientHeight;
}
function focusOn(index) {
  if (!listed.length) return;
  const before = listed[focus];
  focus = Math.min(Math.max(index, 0), listed.length - 1);
  if (listed[focus] !== before || !shownAt) startWatch();
  bringIntoView(focus);
  draw();
  tiles.get(listed[focus])?.button.focus({preventScroll: true});
  learn(listed[focus]).catch(() => {});  // so that a grade need not wait for it
}
function relist() {
  const kept = listed[focus];
  list();
  const at = listed.findIndex(n => n >= kept);
  focus = at < 0 ? Math.max(0, listed.length - 1) : at;
  draw();
}

// ---------------------------------------------------------------- one by one
function startWatch() { looked = 0; shownAt = document.hidden ? 0 : performance.now(); }
function seconds() { return Math.round((looked + (shownAt ? performance.now() - shownAt : 0)) / 100) / 10; }
document.addEventListener("visibilitychange", () => {
  if (document.hidden && shownAt) { looked += performance.now() - shownAt; shownAt = 0; }
  else if (!document.hidden) shownAt = performance.now();
});
function preload(source) {
  if (preloaded.has(source)) return;
  const image = new Image();
  image.src = source;
  preloaded.set(source, image);
  if (preloaded.size > 150) preloaded.delete(preloaded.keys().next().value);
}
function ahead() {
  for (let n = step(place, 1), i = 0; n && i < AHEAD; n = step(n, 1), i++) {
    preload(address(n, view, gain));
    if (i === 0) views.forEach((_, v) => preload(address(n, v, gain)));
  }
}
const factsOf = new Map();
async function learn(n) {
  if (!factsOf.has(n)) {
    if (factsOf.size > 200) factsOf.delete(factsOf.keys().next().value);
    factsOf.set(n, ask(`facts/${n}`));
    factsOf.get(n).catch(() => factsOf.delete(n));
  }
  return factsOf.get(n);
}
function picture() {
  const large = $("large"), source = address(place, view, gain);
  if (large.getAttribute("src") !== source) {
    large.classList.add("late");
    large.src = source;
  }
  large.style.filter = contrast ? `contrast(${1.25 ** contrast})` : "";
  large.alt = `Candidate ${place}, ${views[view].title}`;
  $("frame").classList.toggle("crisp", crisp);
  $("view-name").textContent = views[view].title;
  $("gain").textContent = gain ? `${gain > 0 ? "+" : "−"} ${Math.abs(gain)}` : "± 0";
  [...$("views").children].forEach((button, v) => {
    button.setAttribute("aria-pressed", v === view);
    const image = button.firstElementChild, small = address(place, v, gain);
    if (image.getAttribute("src") !== small) image.src = small;
    image.style.filter = large.style.filter;
  });
}
function marks() {
  const grade = grades[place - 1];
  $("mark").hidden = !grade;
  $("mark").textContent = grade;
  $("mark").className = grade ? kind(grade) : "";
  for (const button of $("grades").children) button.setAttribute("aria-pressed", button.dataset.grade === grade);
}
async function show(n, said = "") {
  if (!n) { $("said").textContent = "This is the end of the list."; return; }
  place = n;
  if (location.hash !== `#${n}`) history.replaceState(null, "", `#${n}`);
  $("all").hidden = true;
  $("one").hidden = false;
  $("to-one").setAttribute("aria-current", "page");
  $("to-all").removeAttribute("aria-current");
  $("place").textContent = `${whole(n)} of ${whole(grades.length)}`;
  $("said").textContent = said;
  $("note").value = noteOf = "";
  current = null;
  picture();
  marks();
  startWatch();
  try {
    const found = await learn(n);
    if (place !== n) return;
    current = found;
    $("note").value = noteOf = found.note;
    const facts = [["id", found.object_id]], told = found.facts;
    const labels = {ra: "RA", dec: "Dec", rank: "rank", logit: "logit", known_name: "known as", known_grade: "known grade"};
    for (const key in labels) if (key in told) {
      const value = told[key], digits = {ra: 6, dec: 6, logit: 3}[key];
      facts.push([labels[key], digits ? value.toFixed(digits) + (digits === 6 ? "°" : "") : String(value)]);
    }
    $("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
    const link = (href, text) => Object.assign(make("a", "", text), {href, rel: "noreferrer noopener", target: "_blank"});
    const ra = told.ra.toFixed(6), dec = told.dec.toFixed(6);
    $("links").replaceChildren("look outside: ",
      link(`https://www.legacysurvey.org/viewer?ra=${ra}&dec=${dec}&zoom=16&layer=ls-dr10`, "Legacy Surveys"), " · ",
      link(`https://sky.esa.int/esasky/?target=${encodeURIComponent(ra + " " + dec)}&fov=0.02`, "ESASky"));
    ahead();
    const following = step(n, 1);
    if (following) learn(following).catch(() => {});
  } catch (error) { trouble(error); }
}
function all() {
  history.replaceState(null, "", "#");
  $("one").hidden = true;
  $("all").hidden = false;
  $("to-all").setAttribute("aria-current", "page");
  $("to-one").removeAttribute("aria-current");
  list();
  const at = listed.findIndex(n => n >= place);
  focusOn(at < 0 ? 0 : at);
}
// Where one goes on: the first without a grade.
const open = () => grades.indexOf("") + 1 || 1;

// ---------------------------------------------------------------- grading: one thing at a time, on only when it is on disk
async function act(what) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    await what();
    trouble(null);
  } catch (error) {
    trouble(error);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}
const seenAs = (v, g) => views[v].name + (g ? `@${g > 0 ? "+" : ""}${g}` : "");
function gradeOne(grade) {
  return act(async () => {
    const n = place, facts = current || await learn(n), note = $("note").value;
    const told = await ask("grade", {place: n, object_id: facts.object_id, grade, note, seconds: seconds(), stretch: seenAs(view, gain)});
    factsOf.delete(n);
    grades[n - 1] = told.grade;
    progress();
    const next = step(n, 1), said = `${whole(n)} has grade ${grade}`;
    if (next) await show(next, said);
    else { marks(); noteOf = note; $("said").textContent = said + ". This is the end of the list."; }
  });
}
function gradeTile(grade) {
  const n = listed[focus];
  if (n === undefined) return;
  return act(async () => {
    const facts = await learn(n);
    const told = await ask("grade", {place: n, object_id: facts.object_id, grade, note: facts.note, seconds: seconds(), stretch: seenAs(mosaicView, 0)});
    factsOf.delete(n);
    grades[n - 1] = told.grade;
    progress();
    const before = listed.length;
    list();
    focusOn(listed.length < before && !matches(n) ? focus : focus + 1);
  });
}
function undo() {
  return act(async () => {
    const told = await ask("undo", {});
    if (!told.place) { $("said").textContent = "Undone: a grade of an object that is not in this list."; return; }
    factsOf.delete(told.place);
    grades[told.place - 1] = told.grade;
    progress();
    if ($("all").hidden) await show(told.place, `The grade of ${whole(told.place)} is undone`);
    else {
      list();
      const at = listed.indexOf(told.place);
      focusOn(at < 0 ? focus : at);
    }
  });
}
function keepNote() {
  const n = place, note = $("note").value;
  if (note === noteOf || !current) return;
  return act(async () => {
    const told = await ask("note", {place: n, object_id: current.object_id, note});
    factsOf.delete(n);
    noteOf = told.note;
    $("said").textContent = "The note is kept";
  });
}

// ---------------------------------------------------------------- keys and buttons
function look(v) { view = (v + views.length) % views.length; picture(); ahead(); }
function brighten(by) { gain = by ? Math.min(state.gain_steps, Math.max(-state.gain_steps, gain + by)) : 0; picture(); ahead(); }
function steepen(by) { contrast = by ? Math.min(8, Math.max(-4, contrast + by)) : 0; picture(); }
function reset() { gain = contrast = 0; picture(); }
async function move(by) { const n = step(place, by); if (n) await show(n); else $("said").textContent = by > 0 ? "This is the end of the list." : "This is the beginning of the list."; }
function toHelp() { if (!$("help").open) $("help").showModal(); }
function source() { const at = views.findIndex(v => v.name === "source"); look(view === at ? 0 : at); }

const KEYS = [
  ["one", ["→", "l", "space"], "next", () => move(1)], ["one", ["←", "h"], "previous", () => move(-1)],
  ["one", ["s"], "next view", () => look(view + 1)], ["one", ["S"], "previous view", () => look(view - 1)],
  ["one", ["e"], "source light, and back", source],
  ["one", ["+", "="], "brighter", () => brighten(1)], ["one", ["-"], "darker", () => brighten(-1)],
  ["one", ["."], "more contrast", () => steepen(1)], ["one", [","], "less contrast", () => steepen(-1)],
  ["one", ["r"], "brightness and contrast as they were", reset],
  ["one", ["p"], "pixels, or smooth", () => { crisp = !crisp; picture(); }],
  ["one", ["n"], "write a note (Enter keeps it, Esc leaves it)", () => $("note").focus()],
  ["one", ["g"], "go to a place", () => { $("goto").focus(); $("goto").select(); }],
  ["any", ["u"], "undo the last grade", undo], ["any", ["m"], "mosaic", () => { if ($("all").hidden) all(); }],
  ["any", ["Enter"], "in the mosaic: open", () => { if (!$("all").hidden) show(listed[focus] || open()); }],
  ["any", ["f"], "on to the first without a grade", () => show(open())],
  ["any", ["?"], "this help", toHelp],
];
const NAMED = {ArrowRight: "→", ArrowLeft: "←", " ": "space"};
const isTyping = node => node instanceof HTMLTextAreaElement || (node instanceof HTMLInputElement && node.type !== "range") || node instanceof HTMLSelectElement;

function mosaicKey(event) {
  const {columns, pitch} = layout(), page = columns * Math.max(1, Math.floor($("scroll").clientHeight / pitch));
  const by = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page, Home: -listed.length, End: listed.length}[event.key];
  if (by === undefined || event.target.type === "range") return false;
  focusOn(focus + by);
  return true;
}
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !state || $("help").open) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const inMosaic = !$("all").hidden, grade = [...names.keys()].find(name => name.toLowerCase() === event.key.toLowerCase());
  if (inMosaic && mosaicKey(event)) { event.preventDefault(); return; }
  if (event.target.closest?.("button:not(.tile)") && (event.key === "Enter" || event.key === " ")) return;
  if (grade !== undefined) {
    event.preventDefault();
    if (event.repeat) return;
    if (inMosaic) gradeTile(grade); else gradeOne(grade);
    return;
  }
  const key = NAMED[event.key] || event.key;
  const found = KEYS.find(([where, keys]) => keys.includes(key) && (where === "any" || !inMosaic));
  if (!found || (busy && key !== "?")) return;
  event.preventDefault();
  Promise.resolve(found[3]()).catch(trouble);
}

function build() {
  $("run").textContent = state.run;
  document.title = `grading ${state.run} · survey_scan`;
  for (const [i, grade] of state.scheme.grades.entries()) {
    const button = make("button", "grade", make("b", kind(grade.name), grade.name), make("span", "", grade.title));
    button.type = "button";
    button.dataset.grade = grade.name;
    button.setAttribute("aria-keyshortcuts", grade.name.toLowerCase());
    button.addEventListener("click", () => gradeOne(grade.name));
    if (state.scheme.name === "0-3") $("grades").append(button); else $("grades").prepend(button);
    $("definitions").append(make("dt", kind(grade.name), grade.name), make("dd", "", make("b", "", grade.title), ` — ${grade.meaning}`));
    if (i) $("filter").append(new Option(`my grade ${grade.name}${i + 1 < state.scheme.grades.length ? " or better" : ""}`, i));
  }
  $("filter").prepend(new Option("all", "all"), new Option("ungraded", "none"));
  $("filter").value = "all";
  $("source").textContent = `Scheme ${state.scheme.name}: ${state.scheme.source}.`;
  const keyRow = (keys, text) => make("tr", "", make("td", "", ...keys.map(k => make("kbd", "", k))), make("td", "", text));
  $("keys").firstElementChild.append(keyRow([...names.keys()].map(n => n.toLowerCase()), "grade, and on to the next"), ...KEYS.map(([, keys, text]) => keyRow(keys, text)),
    keyRow(["↑", "↓", "PgUp", "Home", "…"], "in the mosaic: move"));
  $("kept").textContent = `Grades are kept in ${state.file}, each before the next picture.`
    + (state.hidden ? " The order is your own; ranks and scores are hidden." : "");
  views.forEach((v, i) => {
    const image = make("img"), button = make("button", "view", image, v.title);
    image.alt = "";
    button.type = "button";
    button.title = v.title;
    button.addEventListener("click", () => look(i));
    $("views").append(button);
    $("mosaic-view").append(new Option(v.title, i));
  });
}
function listen() {
  document.addEventListener("keydown", onKey);
  $("scroll").addEventListener("scroll", () => { scrolledAt = performance.now(); redraw(); }, {passive: true});
  new ResizeObserver(redraw).observe($("scroll"));
  $("size").addEventListener("input", () => {
    const kept = focus;
    draw();
    bringIntoView(kept);
    draw();
  });
  $("filter").addEventListener("change", () => { $("scroll").scrollTop = 0; relist(); });
  $("mosaic-view").addEventListener("change", () => { mosaicView = Number($("mosaic-view").value); draw(); });
  $("grid").addEventListener("click", event => {
    const tile = event.target.closest(".tile");
    if (tile) { focus = listed.indexOf(Number(tile.dataset.place)); show(Number(tile.dataset.place)); }
  });
  $("large").addEventListener("load", () => $("large").classList.remove("late"));
  $("large").addEventListener("error", async () => {
    $("large").classList.remove("late");
    const source = $("large").getAttribute("src");
    if (source && !dead) try { const answer = await fetch(source); if (!answer.ok) trouble(new Error((await answer.json()).error)); } catch { /* said elsewhere */ }
  });
  $("note").addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); keepNote(); $("note").blur(); }
  });
  $("goto").addEventListener("keydown", event => {
    if (event.key !== "Enter") return;
    const n = Number($("goto").value.replaceAll(",", ""));
    event.preventDefault();
    if (Number.isInteger(n) && n >= 1 && n <= grades.length) { $("goto").value = ""; $("goto").blur(); show(n); }
    else $("said").textContent = `There is no place ${$("goto").value}; there are 1 to ${whole(grades.length)}.`;
  });
  const clicks = {"to-all": all, "to-one": () => show(listed[focus] || place || open()), "to-help": toHelp, back: () => move(-1), next: () => move(1), undo,
    fainter: () => brighten(-1), brighter: () => brighten(1), flat: () => steepen(-1), steep: () => steepen(1), reset};
  for (const id in clicks) $(id).addEventListener("click", clicks[id]);
}

try {
  state = await ask("state");
  ({grades, views} = state);
  names = new Map(state.scheme.grades.map((grade, i) => [grade.name, i]));
  build();
  progress();
  list();
  listen();
  const asked = Number(location.hash.slice(1));
  place = open();
  if (asked >= 1 && asked <= grades.length) await show(asked);
  else all();
} catch (error) {
  trouble(error);
}
document.documentElement.dataset.ready = "1";
