/* The docs page: openapi.json for people. Routes are closed until they are opened, errors stand once at the end. */

const VERBS = ["get", "post", "put", "delete"];
const anchorOf = (verb, path) => `${verb}${path}`.replace(/[^a-z0-9]+/gi, "-").replace(/-$/, "");
let api;

/* -- what schemas say ----------------------------------------------------------------------- */
const unescaped = part => part.replaceAll("~1", "/").replaceAll("~0", "~");
function follow(node) {
  for (let i = 0; node && node.$ref && i < 20; i++)
    node = node.$ref.slice(2).split("/").reduce((inside, part) => inside[unescaped(part)], api);
  return node || {};
}
function kind(schema, deep = 0) {
  const s = follow(schema);
  if (deep > 5) return "…";
  if ("const" in s) return JSON.stringify(s.const);
  if (s.enum) return s.enum.map(v => JSON.stringify(v)).join(" | ");
  if (s.anyOf) return [...new Set(s.anyOf.map(each => kind(each, deep + 1)))].join(" | ");
  if (s.format === "binary") return "bytes";
  return [s.type || "anything"].flat().map(t => t === "array" ? `[${s.items ? kind(s.items, deep + 1) : ""}]` : t).join(" | ");
}
/* A pattern that names words (what may be null is no enum in the contract) as those words; of any other the text tells. */
function choices(pattern) {
  const plain = pattern.replace(/^\^\(?|\)?\$$/g, "").replace(/\[\w(\w)\]/g, "$1");
  return /^[\w|]+$/.test(plain) ? [plain.split("|").join(" | ")] : [];
}
const ANY = 2 ** 31 - 1; // as far as integers go is no bound to tell
function bounds(schema) {
  const s = follow(schema), parts = [];
  const range = (low, high, word) => {
    if (low !== undefined && high !== undefined) parts.push(`${low} to ${high}${word}`);
    else if (low !== undefined) parts.push(`at least ${low}${word}`);
    else if (high !== undefined) parts.push(`at most ${high}${word}`);
  };
  range(s.minimum, s.maximum < ANY ? s.maximum : undefined, "");
  range(s.minItems, s.maxItems, " items");
  range(undefined, s.maxLength, " characters");
  if (s.pattern) parts.push(...choices(s.pattern));
  if (s.default !== undefined && s.default !== null) parts.push(`default ${JSON.stringify(s.default)}`);
  return parts.join("; ");
}
/* [name, schema, required] of an object's members, of an array's items where those are objects; two levels. */
function members(schema, prefix = "", deep = 0) {
  const s = follow(schema);
  if (s.items) return members(s.items, `${prefix}[].`, deep);
  return Object.entries(s.properties || {}).flatMap(([name, each]) => [
    [`${prefix}${name}`, each, (s.required || []).includes(name)],
    ...deep < 2 && follow(each).properties ? members(each, `${prefix}${name}.`, deep + 1) : [],
    ...deep < 2 && follow(follow(each).items || {}).properties ? members(each, `${prefix}${name}`, deep + 1) : []]);
}

/* -- what descriptions use of Markdown: paragraphs, tables, **bold** and `code` --------------- */
const inline = text => text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).filter(part => part).map(part =>
  part[0] === "`" ? el("code", {}, part.slice(1, -1)) : part.startsWith("**") ? el("b", {}, part.slice(2, -2)) : part);
/* The roles say what tags do already, until a narrow window lays rows out as blocks: a table that is displayed as anything else
 * is none to a screen reader. */
function grid(label, head, rows) {
  const row = cells => el("tr", {role: "row"}, ...cells);
  return el("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": label}, el("table", {class: "list", role: "table"},
    el("thead", {role: "rowgroup"}, row(head.map(cell => el("th", {scope: "col", role: "columnheader"}, cell)))),
    el("tbody", {role: "rowgroup"}, ...rows.map(cells => row(cells.map(cell => el("td", {role: "cell"}, cell)))))));
}
function paragraph(text) {
  const lines = text.trim().split("\n").map(line => line.trim());
  if (!lines.every(line => line.startsWith("|"))) return el("p", {}, ...inline(lines.join(" ")));
  const rows = lines.filter(line => !/^[|\s:-]+$/.test(line)).map(line => line.slice(1, -1).split("|").map(cell => inline(cell.trim())));
  return grid("Limits", rows[0], rows.slice(1));
}
const prose = text => text ? el("div", {class: "text"}, ...String(text).trim().split(/\n\s*\n/).map(paragraph)) : null;

/* -- one route ------------------------------------------------------------------------------ */
const exampleOf = content => {
  const first = content && Object.values(content.examples || {})[0];
  return first && follow(first).value;
};
/* A short type is not broken over lines. */
const whole = text => text.length < 24 ? el("span", {class: "whole"}, text) : text;
const fieldTable = (label, schema) => {
  const rows = members(schema).map(([name, each, required]) =>
    [el("code", {}, name + (required ? " *" : "")), whole(kind(each)), bounds(each), prose(follow(each).description)]);
  return rows.length ? [el("h3", {}, label), grid(label, ["Field (* required)", "Type", "Bounds", "Description"], rows)] : [];
};
async function send(method, path, body, place) {
  place.replaceChildren(el("p", {class: "note"}, "asking …"));
  const began = performance.now();
  try {
    const answer = await fetch(path, {...requestOf(path, undefined), method, ...body === undefined ? {} :
      {body, headers: {...requestOf(path, "").headers}}});
    const text = await answer.text(), ms = performance.now() - began;
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 1); } catch { /* not JSON: as it came */ }
    place.replaceChildren(el("p", {class: answer.ok ? "note" : "error"}, `${answer.status} in ${ms.toFixed(1)} ms, ${text.length.toLocaleString("en")} bytes; `,
      [...answer.headers].filter(([name]) => /^(x-|server-timing|etag|retry-after)/.test(name)).map(([k, v]) => `${k}: ${v}`).join(", ")),
      sheet("The answer", shown, true));
  } catch (error) {
    place.replaceChildren(el("p", {class: "error"}, String(error.message || error)));
  }
}
/* The curl line, kept true while the body is edited, and the form that sends the same. */
function attempt(verb, path, operation, admin) {
  const request = follow(operation.requestBody || {}).content || {}, json = request["application/json"];
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => {
    const parameter = follow((operation.parameters || []).find(p => follow(p).name === name) || {});
    return encodeURIComponent(parameter.example ?? 1);
  });
  const line = el("pre", {tabindex: 0, role: "region", "aria-label": `curl for ${verb} ${path}`}), place = el("div", {});
  const editor = json && el("textarea", {"aria-label": `Body of ${verb} ${path}`, spellcheck: "false", rows: 3}, JSON.stringify(exampleOf(json) ?? {}));
  const where = el("input", {"aria-label": `Path of ${verb} ${path}`, value: filled});
  const verbose = verb.toUpperCase(), server = admin ? "http://127.0.0.1:8081" : location.origin;
  const tell = () => {
    let text = curlOf(where.value, undefined, verbose, server);
    if (admin) text += " \\\n  -H \"Authorization: Bearer $ADMIN_TOKEN\"";
    if (editor) text += ` \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(editor.value)}`;
    else if (request["application/octet-stream"]) text += " \\\n  -H 'Content-Type: application/octet-stream' \\\n  --data-binary @heads.safetensors";
    else if (verbose === "POST") text = text.replace("curl -s ", "curl -s -X POST ");
    line.textContent = text;
  };
  for (const node of [editor, where]) if (node) node.addEventListener("input", tell);
  tell();
  const said = el("span", {class: "note", role: "status"}), row = el("div", {class: "row"}, button("Copy", () => copy(line.textContent, said)));
  if (admin) row.append(el("span", {class: "note"}, "on the admin listener: not from this page"));
  else row.append(path === filled ? "" : where, button("Try it", () => send(verbose, where.value, editor ? editor.value : undefined, place), {class: "go"}));
  row.append(said);
  return el("div", {class: "sheet"}, line, admin || !editor ? null : editor, row, place);
}
function details(verb, path, operation, admin) {
  const parameters = (operation.parameters || []).map(follow), request = follow(operation.requestBody || {}).content || {};
  const answers = Object.entries(operation.responses || {}), good = answers.filter(([s]) => s < "4").map(([s, r]) => [s, follow(r)]);
  const refused = answers.filter(([s]) => s >= "4").map(([s]) => s);
  return [prose(operation.description), attempt(verb, path, operation, admin),
    ...parameters.length ? [el("h3", {}, "Parameters"), grid("Parameters", ["Name", "In", "Type", "Description"], parameters.map(p =>
      [el("code", {}, p.name), p.in, whole(kind(p.schema)), prose([p.description, bounds(p.schema)].filter(t => t).join(" "))]))] : [],
    ...Object.entries(request).flatMap(([type, content]) => fieldTable(`Body: ${type}`, content.schema)),
    ...good.flatMap(([status, answer]) => [el("h3", {}, `Answer ${status}`), prose(answer.description),
      ...Object.entries(answer.content || {}).flatMap(([type, content]) => [
        el("p", {class: "note"}, `${type}: ${kind(content.schema)}`),
        exampleOf(content) === undefined ? null : el("pre", {tabindex: 0, role: "region", "aria-label": `Example of ${type}`}, JSON.stringify(exampleOf(content))),
        ...fieldTable(`Fields of ${type}`, content.schema).slice(1)]),
      answer.headers ? el("p", {class: "note"}, `Headers: ${Object.keys(answer.headers).join(", ")}`) : null]),
    refused.length ? el("p", {class: "note"}, "Refusals: ", ...refused.flatMap((s, i) => [i ? ", " : "", el("a", {href: `#error-${s}`}, s)])) : null]
    .filter(node => node);
}
function route(verb, path, operation, admin) {
  const inside = el("div", {});
  const node = el("details", {class: "route", id: anchorOf(verb, path)},
    el("summary", {}, el("span", {class: `verb ${verb}`}, verb.toUpperCase()), el("code", {}, path), el("span", {class: "note"}, operation.summary)), inside);
  /* Made when first opened: thirty routes' tables are much for a phone. */
  node.addEventListener("toggle", () => { if (node.open && !inside.hasChildNodes()) inside.append(...details(verb, path, operation, admin)); });
  return node;
}

/* -- errors, each once ---------------------------------------------------------------------- */
function errors() {
  const status = new Map(); /* component → statuses that name it */
  for (const item of Object.values(api.paths)) for (const verb of VERBS)
    for (const [code, answer] of Object.entries((item[verb] || {}).responses || {}))
      if (code >= "4" && answer.$ref) {
        const name = answer.$ref.split("/").pop();
        status.set(name, (status.get(name) || new Set()).add(code));
      }
  const rows = [...status].map(([name, codes]) => [[...codes].sort(), name]).sort((a, b) => a[0][0] < b[0][0] ? -1 : 1);
  const native = rows.filter(([, name]) => !name.startsWith("OpenAI")), seenAnchors = new Set();
  const cells = ([codes, name]) => {
    const answer = api.components.responses[name], content = (answer.content || {})["application/json"] || {};
    const first = Object.values(content.examples || {}).map(e => follow(e).value);
    const anchor = seenAnchors.has(codes[0]) ? null : `error-${codes[0]}`;
    seenAnchors.add(codes[0]);
    return [el("b", {id: anchor}, codes.join(", ")), prose(answer.description),
      el("div", {}, ...first.flatMap((e, i) => [i ? el("br") : "", el("code", {}, e.code || (e.error || {}).code), ` ${(e.error || {}).message || e.error}`]))];
  };
  const codes = follow(api.components.schemas.Code).enum || [];
  return [el("h2", {id: "errors"}, "Errors"),
    el("p", {}, "One shape: ", el("code", {}, "{error, error_type, code, param, request_id}"), ". ", el("code", {}, "code"), " is stable; the text names the field and what is allowed."),
    grid("Errors", ["Status", "When", "Examples"], native.map(cells)),
    el("p", {}, "OpenAI's routes refuse with the same statuses and codes, as ", el("code", {}, "{error: {message, type, param, code}}"), "."),
    el("p", {class: "note"}, "All codes: ", codes.join(", "), ".")];
}

/* -- the page ------------------------------------------------------------------------------- */
function openHash() {
  const node = location.hash && $(decodeURIComponent(location.hash.slice(1)));
  if (!node) return;
  if (node.tagName === "DETAILS") node.open = true;
  node.scrollIntoView();
}
function showDocs() {
  const groups = new Map((api.tags || []).map(tag => [tag.name, []]));
  for (const [path, item] of Object.entries(api.paths)) for (const verb of VERBS)
    if (item[verb]) groups.get(item[verb].tags[0]).push([verb, path, item[verb], item["x-listener"] === "admin"]);
  const toc = [], parts = [prose(api.info.description)];
  for (const tag of api.tags) {
    parts.push(el("h2", {}, tag.name), prose(tag.description), ...groups.get(tag.name).map(each => route(...each)));
    toc.push(el("h2", {}, tag.name), el("ul", {}, ...groups.get(tag.name).map(([verb, path]) =>
      el("li", {}, el("a", {href: `#${anchorOf(verb, path)}`}, el("span", {class: `verb ${verb}`}, verb.toUpperCase()), path)))));
  }
  toc.push(el("ul", {}, el("li", {}, el("a", {href: "#errors"}, "Errors"))));
  $("facts").replaceChildren(el("li", {}, api.info.version), el("li", {}, api.info.summary));
  $("docs").replaceChildren(...[...parts, ...errors()].filter(part => part));
  /* Beside the text where there is room, else closed above it. */
  const list = el("details", {}, el("summary", {}, "Routes"), ...toc), narrow = matchMedia("(max-width: 50rem)");
  const fit = () => { list.open = !narrow.matches; };
  narrow.addEventListener("change", fit);
  fit();
  $("toc").replaceChildren(list);
  addEventListener("hashchange", openHash);
}
async function startDocs() {
  try {
    api = (await ask("/openapi.json")).body;
    showDocs();
  } catch (error) {
    $("docs").replaceChildren(el("p", {class: "error"}, String(error.message || error)),
      el("p", {}, "The contract itself: ", el("a", {href: "/openapi.yaml"}, "/openapi.yaml")));
    $("facts").replaceChildren();
  }
  $("page").hidden = false;
  if (api) openHash();
}
if (document.body.dataset.page === "docs") startDocs();
