"""``/docs``: one page without any other host, that shows ``/openapi.json`` and lets one try it."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Vitrine</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
section { border: 1px solid #8886; border-radius: 8px; padding: 0 1rem 1rem; margin: 1rem 0 }
h2 { font-size: 1.05rem } .verb { color: #0a7; font-weight: 700; margin-right: .6em }
textarea { width: 100%; min-height: 8rem; font: 13px/1.4 ui-monospace, monospace; box-sizing: border-box }
pre { overflow: auto; background: #8881; padding: .7rem; border-radius: 6px; font-size: 13px }
table { border-collapse: collapse } td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top }
button { padding: .3rem 1rem } code { font-size: 13px } label { display: block; margin: .5rem 0 }
</style></head><body>
<h1 id="title">Vitrine</h1><p id="about"></p>
<label>API key, if this server asks for one: <input id="key" type="password" autocomplete="off"></label>
<main id="all">loading</main>
<script>
const el = (tag, text, parent) => { const e = document.createElement(tag); if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e); return e };
const keyed = () => { const k = document.getElementById("key").value; return k ? { "x-api-key": k } : {} };
let spec;
const resolve = s => s && s.$ref ? spec.components.schemas[s.$ref.split("/").pop()] : s;
const kind = s => { if (!s) return ""; if (s.$ref) return s.$ref.split("/").pop();
  if (s.anyOf) return s.anyOf.map(kind).join(" or "); if (s.type === "array") return "list of " + (kind(s.items) || "values");
  return s.enum ? s.enum.join(" | ") : s.type || "any" };
function table(schema, into) {
  const s = resolve(schema); if (!s || !s.properties) return;
  const t = el("table", undefined, into);
  for (const [name, p] of Object.entries(s.properties)) {
    const row = el("tr", undefined, t); el("code", name, el("td", undefined, row)); el("td", kind(p), row);
    const d = []; if (p.description) d.push(p.description); if ("default" in p) d.push("default " + JSON.stringify(p.default));
    if ((s.required || []).includes(name)) d.push("needed"); el("td", d.join("; "), row) } }
function show(path, verb, op, all) {
  const box = el("section", undefined, all), h = el("h2", undefined, box);
  const v = el("span", verb.toUpperCase(), h); v.className = "verb"; el("code", path, h); el("p", op.summary, box);
  const body = op.requestBody && op.requestBody.content["application/json"];
  let input; if (body) { table(body.schema, box); input = el("textarea", undefined, box);
    input.value = JSON.stringify(body.example, null, 2) }
  const go = el("button", "Send", box), out = el("pre", undefined, box); out.hidden = true;
  go.onclick = async () => { let url = path.replace(/{(\\w+)}/g, (_, n) => encodeURIComponent(prompt(n) || ""));
    out.hidden = false; out.textContent = "...";
    try { const r = await fetch(url, { method: verb, headers: { "content-type": "application/json", ...keyed() },
        body: input ? input.value : undefined });
      const text = await r.text(); let shown = text; try { shown = JSON.stringify(JSON.parse(text), null, 2) } catch {}
      out.textContent = r.status + "  " + (r.headers.get("server-timing") || "") + "\\n" + shown
    } catch (e) { out.textContent = String(e) } };
  el("h3", "Answers", box); const t = el("table", undefined, box);
  for (const [status, r] of Object.entries(op.responses)) { const row = el("tr", undefined, t);
    el("td", status, row); el("td", r.description, row) } }
fetch("openapi.json", { headers: keyed() }).then(r => r.json()).then(s => { spec = s;
  document.getElementById("title").textContent = s.info.title + " " + s.info.version;
  document.getElementById("about").textContent = s.info.description;
  const all = document.getElementById("all"); all.textContent = "";
  for (const [path, ops] of Object.entries(s.paths)) for (const [verb, op] of Object.entries(ops)) show(path, verb, op, all);
  el("h2", "Shapes", all);
  for (const [name, schema] of Object.entries(s.components.schemas)) { const d = el("details", undefined, all);
    el("summary", name, d); if (schema.description) el("p", schema.description, d); table(schema, d) }
}).catch(e => { document.getElementById("all").textContent = "cannot read openapi.json: " + e });
</script></body></html>
"""
