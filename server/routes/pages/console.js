/* The console: sentences in, what every head says, similarity and tokens out. */

const DRAWN = {map: 30, sentences: 100, open: 6, labels: 6, fewLabels: 3, fewHeads: 4}; /* how much a view shows before it asks */
const seen = {texts: [], analysis: null, tokens: null, why: null, heads: [], info: {}};

/* -- sections ------------------------------------------------------------------------------- */
/* Fills a section: its title, the two buttons of the view, and a place for what it shows. */
function view(id, title, curl, json, ...beside) {
  const {tools, place} = panels(title, curl, json);
  const body = el("div", {}, el("p", {class: "note"}, "asking …"));
  $(id).replaceChildren(el("div", {class: "head"}, el("h2", {id: `${id}-title`}, title), ...beside, tools), place, body);
  return (...children) => body.replaceChildren(...children.flat().filter(child => child));
}
/* items drawn by make, the rest behind a button: nothing is left out silently. */
function some(items, most, make, word) {
  const nodes = items.slice(0, most).map(make);
  if (items.length <= most) return nodes;
  const more = button(`Show the other ${plural(items.length - most, word)}`, () =>
    more.replaceWith(...items.slice(most).map((item, i) => make(item, i + most))));
  return [...nodes, more];
}

/* -- what the heads say --------------------------------------------------------------------- */
const answerOf = (result, name) =>
  name === "classifier" ? result.classify : name === "sentiment" ? result.sentiment : (result.named || {})[name];
const scoresOf = answer => Array.isArray(answer.scores) ? answer.scores.map(s => [s.label, s.score]) : Object.entries(answer.scores);

function entities(list) {
  return list.length ? el("ul", {class: "chips"}, ...list.map(e =>
    el("li", {}, e.word ?? `${e.start}–${e.end}`, el("small", {}, `${e.entity_group || e.entity} ${percent(e.score)}`))))
    : el("p", {class: "note"}, "finds nothing");
}
function bars(head, answer, most) {
  if (Array.isArray(answer)) return entities(answer);
  const row = ([label, score]) => {
    const bar = el("b");
    /* A score head may answer any number; the bar shows 0 to 1, the number says the rest. */
    bar.style.width = `${Math.min(100, Math.max(0, score * 100))}%`;
    return el("li", {class: label === answer.label ? "best" : null}, el("span", {class: "label"}, label),
      el("i", {"aria-hidden": "true"}, bar), el("span", {class: "num"}, head.kind === "score" ? score.toFixed(4) : percent(score)));
  };
  const sorted = scoresOf(answer).sort((a, b) => b[1] - a[1]), list = el("ul", {class: "bars"}, ...sorted.slice(0, most).map(row));
  if (sorted.length <= most) return list;
  return [list, el("details", {}, el("summary", {}, `${plural(sorted.length - most, "more label")}`),
    el("ul", {class: "bars"}, ...sorted.slice(most).map(row)))];
}

/* Tokens that touch are one word; specials (no offsets) are left out here, JSON has them. */
function wordsOf(explanation) {
  const words = [];
  for (const token of explanation.tokens) {
    if (token.start === null) continue;
    const before = words[words.length - 1];
    if (before && before.end === token.start && /^[\p{L}\p{N}'’]/u.test(token.text)) {
      before.end = token.end;
      before.share += token.share;
    } else words.push({start: token.start, end: token.end, share: token.share});
  }
  return words;
}
/* The sentence with a tint under each word: one colour speaks for the label, the other against it. */
function coloured(text, explanation) {
  const chars = Array.from(text), words = wordsOf(explanation), nodes = [];
  const most = Math.max(1e-9, ...words.map(w => Math.abs(w.share)));
  let at = 0;
  for (const word of words) {
    nodes.push(chars.slice(at, word.start).join(""));
    const mark = el("mark", {title: `${word.share >= 0 ? "+" : ""}${word.share.toFixed(3)} for ${explanation.label}`},
      chars.slice(word.start, word.end).join(""));
    mark.style.background =
      `color-mix(in srgb, var(--${word.share >= 0 ? "for" : "against"}) ${Math.round(100 * Math.abs(word.share) / most)}%, transparent)`;
    nodes.push(mark);
    at = word.end;
  }
  nodes.push(chars.slice(at).join(""));
  return nodes.filter(node => node !== "");
}
/* The three words that weigh most on each side; what has less than a twentieth of the largest share decides nothing. */
function reasons(text, explanation) {
  const chars = Array.from(text), words = wordsOf(explanation).map(w => [chars.slice(w.start, w.end).join(""), w.share]);
  const least = Math.max(...words.map(w => Math.abs(w[1]))) / 20;
  const side = sign => words.filter(w => sign * w[1] > least).sort((a, b) => sign * (b[1] - a[1])).slice(0, 3)
    .map(([word, share]) => `“${word}” ${sign > 0 ? "+" : "−"}${Math.abs(share).toFixed(2)}`).join(", ");
  return `for ${explanation.label}: ${side(1) || "no word"}${side(-1) && `; against: ${side(-1)}`}`;
}

const showResults = () => {
  const {texts, analysis, heads, why} = seen, version = (analysis.body.model.heads || "").split("-")[0];
  drawResults(some(analysis.body.results, DRAWN.sentences, (result, i) => {
    const explanation = why && why.answers && why.answers[i].explanation;
    const answered = heads.filter(head => answerOf(result, head.name)), many = answered.length > DRAWN.fewHeads ? " many" : "";
    return el("article", {class: `sentence${many}`, "aria-label": `Sentence ${i + 1}`}, el("div", {},
      el("p", {class: "words"}, el("span", {class: "n num"}, String(i + 1)),
        explanation ? coloured(texts[i], explanation) : texts[i]),
      el("p", {class: "note"}, plural(result.tokens, "token"), result.windows > 1 ? `, ${result.windows} windows` : "",
        result.truncated ? `, cut to the model's ${seen.info.max_input_length}` : "",
        explanation ? ` — ${reasons(texts[i], explanation)}` : "")),
      answered.length ? el("div", {class: `columns${many}`}, ...answered.map(head =>
        el("div", {}, el("h3", {}, `${head.name} · ${version}`), bars(head, answerOf(result, head.name), many ? DRAWN.fewLabels : DRAWN.labels)))) : null);
  }, "sentence"),
  heads.length ? null : el("p", {class: "note"}, "No heads are in service: this server embeds. PUT /admin/heads brings some in."));
};

/* Heads on the mean over a text's tokens: only theirs are exact sums over words. */
const explained = () => {
  const {pooling = "mean"} = (seen.info.model_type || {}).embedding || {};
  return pooling === "mean" ? seen.heads.filter(head => head.input === "pooled") : [];
};

/* Buttons above the sentences: which head's decision colours the words. */
function whyButtons() {
  const said = el("span", {class: "note", role: "status"});
  const group = el("div", {class: "choice", role: "group", "aria-label": "Colour the words by their share of a decision"},
    el("span", {class: "note"}, "Why:"));
  for (const head of explained()) {
    const one = button(head.name, () => why(head.name), {"aria-pressed": String(Boolean(seen.why && seen.why.name === head.name))});
    group.append(one);
  }
  group.append(said);
  async function why(name) {
    if (seen.why && seen.why.name === name) seen.why = null;
    else {
      const body = {inputs: seen.texts, explain: true};
      try {
        seen.why = {name, body, answers: (await ask(`/heads/${name}`, body)).body};
      } catch (error) {
        seen.why = null;
        said.textContent = error.message;
      }
    }
    for (const each of group.querySelectorAll("button"))
      each.setAttribute("aria-pressed", String(Boolean(seen.why && seen.why.name === each.textContent)));
    if (seen.why) said.textContent = "blue speaks for the label, orange against it";
    showResults();
  }
  return {group, why};
}

/* -- similarity ----------------------------------------------------------------------------- */
function cosines(vectors) {
  const norm = vectors.map(v => Math.hypot(...v) || 1);
  return vectors.map((a, i) => vectors.map((b, j) => a.reduce((sum, x, k) => sum + x * b[k], 0) / norm[i] / norm[j]));
}
/* One hue from the card's colour upwards; the text on it keeps its contrast in both themes. */
function showMap() {
  const shown = seen.analysis.body.results.slice(0, DRAWN.map), all = cosines(shown.map(r => r.embedding));
  const others = all.flatMap((row, i) => row.filter((_, j) => i !== j)), low = Math.min(1, ...others);
  const width = shown.length > 8 ? 14 : 44;
  const cell = (value, i, j) => {
    const node = el("td", {class: "num", title: `${value.toFixed(4)}\n${seen.texts[i]}\n${seen.texts[j]}`}, value.toFixed(2));
    const strength = low < 1 ? Math.max(0, (value - low) / (1 - low)) : 1;
    node.style.background = `color-mix(in srgb, var(--heat) ${Math.round(100 * strength)}%, var(--inset))`;
    return node;
  };
  const header = (text, i, scope) => el("th", {scope, title: text}, el("span", {class: "n num"}, `${i + 1} `),
    scope === "row" ? start(text, width) : hidden(start(text, width)));
  seen.map = {low, cosines: all};
  $("similarity").style.setProperty("--rows", shown.length);
  drawMap(
    el("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Cosine similarity of every pair"},
      el("table", {class: "heat"},
        el("thead", {}, el("tr", {}, el("td"), ...shown.map((_, i) => header(seen.texts[i], i, "col")))),
        el("tbody", {}, ...all.map((row, i) => el("tr", {}, header(seen.texts[i], i, "row"), ...row.map((v, j) => cell(v, i, j))))))),
    el("p", {class: "note"}, others.length ? `Cosine of each pair; the colour runs from ${low.toFixed(2)} to 1.00.` : "One sentence: nothing to compare.",
      seen.texts.length > shown.length ? ` The first ${shown.length} of ${seen.texts.length} sentences are drawn.` : ""));
}

/* -- tokens --------------------------------------------------------------------------------- */
function showTokens() {
  const limit = seen.info.max_input_length || Infinity, open = seen.texts.length <= DRAWN.open;
  drawTokens(some(seen.tokens.body, DRAWN.sentences, (list, i) => {
    const cut = Math.max(0, list.length - limit);
    const gone = k => cut > 0 && k >= limit - 1 && k < list.length - 1;
    return el("details", {open}, el("summary", {}, `${i + 1} · ${plural(list.length, "token")}${cut ? `, the last ${cut} cut` : ""} · ${start(seen.texts[i], 48)}`),
      el("ul", {class: "chips"}, ...list.map((token, k) =>
        el("li", {class: gone(k) ? "cut" : token.special ? "special" : null}, token.text, gone(k) ? hidden(" (cut)") : null,
          el("small", {class: "num"}, String(token.id))))));
  }, "sentence"));
}

/* -- heads in service ----------------------------------------------------------------------- */
function showHeads() {
  const heads = seen.heads;
  drawHeads(heads.length ? el("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of the heads"},
    el("table", {class: "list"},
      el("thead", {}, el("tr", {}, ...["Name", "Version", "Kind", "Labels"].map(t => el("th", {scope: "col"}, t)))),
      el("tbody", {}, ...heads.map(head => el("tr", {}, el("th", {scope: "row"}, head.name), el("td", {class: "num"}, `v${head.version}`),
        el("td", {}, head.kind), el("td", {}, (head.labels || []).join(", ")))))))
    : el("p", {class: "note"}, "None: this server embeds only."));
}

/* -- asking --------------------------------------------------------------------------------- */
/* All heads in one pass: the two with tasks of their own, the others by name. */
const TASKS = {classifier: "classify", sentiment: "sentiment"};
const tasksOf = heads => ["embed", ...heads.map(head => TASKS[head.name] || head.name)];
async function askHeads() {
  seen.info = (await ask("/info")).body;
  const info = seen.info;
  seen.heads = (await ask("/heads")).body;
  $("facts").replaceChildren(...[info.model_id, info.precision, info.isa, info.threads && plural(info.threads, "thread"), info.version && `orthrus ${info.version}`]
    .filter(fact => fact).map(fact => el("li", {}, fact)));
  showHeads();
}
function linesOf(most) {
  const all = $("text").value.split("\n").map(t => t.trim()).filter(t => t);
  return {texts: all.slice(0, most), over: Math.max(0, all.length - most)};
}
function report(analysis, over, ms) {
  const timing = (analysis.headers.get("Server-Timing") || "").replaceAll(";dur=", " ");
  const cut = Number(analysis.headers.get("X-Truncated") || 0);
  return `${plural(seen.texts.length, "sentence")}, ${plural(analysis.body.usage.tokens, "token")} in ${ms.toFixed(1)} ms` +
    (timing ? ` (${timing} ms)` : "") + (cut ? `; ${cut} cut to ${seen.info.max_input_length} tokens` : "") +
    (over ? `. This server takes ${seen.texts.length} a request: the last ${plural(over, "line")} were not sent.` : "");
}
async function analyze() {
  const status = $("status");
  status.classList.remove("error");
  $("go").disabled = true;
  try {
    await askHeads();
    const {texts, over} = linesOf(seen.info.max_client_batch_size || 1);
    if (!texts.length) throw new Error("Type a sentence first.");
    const request = {inputs: texts, tasks: tasksOf(seen.heads)}, began = performance.now();
    const analysis = await ask("/analyze", request), ms = performance.now() - began;
    Object.assign(seen, {texts, request, analysis, why: null, tokens: await ask("/tokenize", {inputs: texts})});
    status.textContent = report(analysis, over, ms);
    const {group, why} = whyButtons();
    $("why").replaceChildren(...explained().length ? [group] : []);
    showMap();
    showTokens();
    showResults();
    const [first] = explained();
    if (first) await why(first.name);
  } catch (error) {
    if (error.status === 401) $("key-row").hidden = false;
    status.classList.add("error");
    status.textContent = String(error.message || error);
    return error;
  } finally {
    $("go").disabled = false;
    /* Only now: what would come in below what is being read must not push it about. */
    const first = [...document.querySelectorAll("section[hidden]")];
    for (const section of first) section.hidden = false;
    if (first.length && location.hash.length > 1 && $(location.hash.slice(1))) $(location.hash.slice(1)).scrollIntoView();
  }
}

let drawMap, drawTokens, drawResults, drawHeads;
function startConsole() {
  const curls = () => [curlOf("/analyze", seen.request), ...seen.why ? [curlOf(`/heads/${seen.why.name}`, seen.why.body)] : []].join("\n\n");
  drawHeads = view("heads", "Heads in service", () => curlOf("/heads"), () => seen.heads);
  drawMap = view("similarity", "Similarity", () => curlOf("/embed", {inputs: seen.texts}), () => seen.map);
  drawResults = view("results", "What the heads say", curls,
    () => ({analyze: seen.analysis && seen.analysis.body, explain: seen.why && seen.why.answers}), el("div", {id: "why"}));
  drawTokens = view("tokens", "Tokens", () => curlOf("/tokenize", {inputs: seen.texts}), () => seen.tokens && seen.tokens.body);
  $("key").value = apiKey;
  $("key").addEventListener("change", () => setKey($("key").value));
  $("go").addEventListener("click", analyze);
  $("text").addEventListener("keydown", e => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) analyze(); });
  startLive();
  /* Sample results at once; a server that still loads its model is asked again. */
  const first = async () => {
    const error = await analyze();
    if (error && (error.status === 503 || error.status === undefined)) setTimeout(first, 2000);
  };
  first();
}
if (document.body.dataset.page === "console") startConsole();
