"use strict";
/* What both pages share: nodes, numbers, requests, and the panels "curl" and "JSON" that every view has. Each page
 * starts its own part by the name in <body data-page>. The build puts the .js files here one behind the other. */

const $ = id => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  node.append(...children.flat().filter(child => child !== null && child !== undefined && child !== ""));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const hidden = text => el("span", {class: "unseen"}, text);

function button(text, action, attributes) {
  const node = el("button", {type: "button", ...attributes}, text);
  node.addEventListener("click", action);
  return node;
}

/* -- numbers -------------------------------------------------------------------------------- */
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const percent = share => `${(share * 100).toFixed(1)} %`;
const duration = s => s >= 1 ? `${s.toFixed(2)} s` : s >= .01 ? `${(s * 1e3).toFixed(0)} ms` : `${(s * 1e3).toFixed(1)} ms`;
const compact = v => v >= 1e6 ? `${+(v / 1e6).toFixed(1)}M` : v >= 1e3 ? `${+(v / 1e3).toFixed(1)}k` : `${+v.toFixed(v < 10 ? 2 : v < 100 ? 1 : 0)}`;
const clock = s => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
/* At most n characters, cut between words where there is one; whoever shows this has the whole text beside it. */
function start(text, n) {
  const chars = Array.from(text);
  if (chars.length <= n) return text;
  const cut = chars.slice(0, n).join(""), space = cut.lastIndexOf(" ");
  return (space > n / 2 ? cut.slice(0, space) : cut) + "…";
}

/* -- requests ------------------------------------------------------------------------------- */
let apiKey = sessionStorage.getItem("orthrus-key") || "";
function setKey(value) {
  apiKey = value;
  sessionStorage.setItem("orthrus-key", value);
}
function requestOf(path, body) {
  const request = {method: body === undefined ? "GET" : "POST", headers: {}};
  if (body !== undefined) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  if (apiKey) request.headers.Authorization = `Bearer ${apiKey}`;
  return request;
}
/* {status, headers, body} of a JSON route; throws with the server's own words. */
async function ask(path, body) {
  const answer = await fetch(path, requestOf(path, body));
  const value = await answer.json().catch(() => null);
  if (!answer.ok) {
    const error = new Error(`${answer.status}: ${value && value.error || "no such answer"}`);
    throw Object.assign(error, {status: answer.status, code: value && value.code});
  }
  return {status: answer.status, headers: answer.headers, body: value};
}
const quoted = text => `'${text.replaceAll("'", "'\\''")}'`;
function curlOf(path, body, method, origin = location.origin) {
  const verb = method && !["GET", "POST"].includes(method) ? `-X ${method} ` : "";
  return `curl -s ${verb}${origin}${path}` +
    (apiKey ? " \\\n  -H \"Authorization: Bearer $ORTHRUS_KEY\"" : "") +
    (body === undefined ? "" : ` \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`);
}

/* -- panels --------------------------------------------------------------------------------- */
async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "copied";
  } catch {
    said.textContent = "select the text and copy it: the browser gives the clipboard to secure pages only";
  }
}
const SHOWN = 200000; /* characters of JSON in the page; the file has them all */
function save(text) {
  const link = el("a", {href: URL.createObjectURL(new Blob([text], {type: "application/json"})), download: "orthrus.json"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
/* A text with the buttons that bring it elsewhere. */
function sheet(label, text, file) {
  const said = el("span", {class: "note", role: "status"});
  const row = el("div", {class: "row"}, button("Copy", () => copy(text, said)),
    file ? button("Save", () => save(text)) : null, said);
  if (text.length > SHOWN)
    row.append(el("span", {class: "note"}, `the first ${SHOWN / 1000} kB of ${Math.ceil(text.length / 1000)}; Copy and Save give all`));
  return el("div", {class: "sheet"}, row, el("pre", {tabindex: 0, role: "region", "aria-label": label}, text.slice(0, SHOWN)));
}
/* The two buttons of a view, and the place below them. curl and json give what there is at that moment. */
function panels(name, curl, json) {
  const place = el("div", {class: "panel"}), buttons = [];
  const toggle = (text, make) => {
    const one = button(text, () => {
      const open = one.getAttribute("aria-expanded") === "true";
      for (const each of buttons) each.setAttribute("aria-expanded", "false");
      place.replaceChildren(...open ? [] : [make()]);
      one.setAttribute("aria-expanded", String(!open));
    }, {class: "quiet", "aria-expanded": "false", "aria-label": `${text}: ${name}`});
    buttons.push(one);
    return one;
  };
  const tools = el("div", {class: "tools"},
    toggle("curl", () => {
      const box = sheet(`${name} as a curl command`, curl());
      box.querySelector("button").click();
      return box;
    }),
    toggle("JSON", () => sheet(`${name} as JSON`, JSON.stringify(json(), null, 1), true)));
  return {tools, place};
}
