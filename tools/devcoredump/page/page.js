// SPDX-License-Identifier: GPL-2.0-only
//
// Shows the report of a file that is dropped, chosen or pasted.

import { explain } from "./explain.js";

const get = id => document.getElementById(id);
const message = text => { get("message").textContent = text; };
const urls = [];

// After this the browser refuses every request of this page, whatever is in a dump.
function shut() {
	const policy = document.createElement("meta");
	policy.httpEquiv = "Content-Security-Policy";
	policy.content = "default-src 'none'; script-src 'wasm-unsafe-eval'; style-src 'unsafe-inline'; " +
		"img-src data:; frame-src blob:; base-uri 'none'; form-action 'none'";
	document.head.append(policy);
}

const module = (async () => {
	const answer = await fetch("msm-devcoredump.wasm");
	if (!answer.ok)
		throw new Error(`msm-devcoredump.wasm: ${answer.status} ${answer.statusText}`);
	const compiled = await WebAssembly.compile(await answer.arrayBuffer());
	shut();
	return compiled;
})();

function show(name, found, button) {
	for (const other of get("documents").children)
		other.setAttribute("aria-pressed", other === button);
	const url = URL.createObjectURL(new Blob([found.html], { type: "text/html" }));
	urls.push(url);
	// In a frame without scripts.
	get("report").src = url;
	get("save").href = url;
	get("save").download = `${name}.html`;
}

function ask() {
	for (const url of urls.splice(0))
		URL.revokeObjectURL(url);
	get("report").removeAttribute("src");
	get("file").value = "";
	for (const [id, hidden] of [["start", false], ["bar", true], ["report", true]])
		get(id).hidden = hidden;
	document.title = "msm-devcoredump";
	message("");
}

// What is read last is shown, should two be given at once.
let turn = 0;

async function read(name, blob) {
	const mine = ++turn;
	let documents;
	try {
		// Before the frame's document goes: what was dropped there goes with it.
		const bytes = new Uint8Array(await blob.arrayBuffer());
		if (mine !== turn)
			return;
		ask();
		message(`Reading ${name} …`);
		documents = await explain(await module, name, bytes);
	} catch (error) {
		if (mine !== turn)
			return;
		ask();
		// What can't be read is told in a sentence; a trap is memory, or a mistake of ours.
		const trap = error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
		message(`${name}: ${trap ? `too much for a browser (${error.message})` : error.message}`);
		return;
	}
	if (mine !== turn)
		return;
	const buttons = documents.map(found => {
		const button = document.createElement("button");
		button.textContent = found.verdict;
		button.onclick = () => show(name, found, button);
		return button;
	});
	get("documents").replaceChildren(...(buttons.length > 1 ? buttons : []));
	for (const [id, hidden] of [["start", true], ["bar", false], ["report", false]])
		get(id).hidden = hidden;
	document.title = `${documents[0].verdict} – ${name}`;
	show(name, documents[0], buttons[0]);
}

const over = on => document.body.classList.toggle("over", on);

// Of what is dropped or pasted, the first file, or else the text.
function take(given) {
	const [file] = given.files;
	const text = given.getData("text/plain");
	if (file || text)
		read(file?.name ?? "text", file ?? new Blob([text]));
}

function listen(where) {
	where.addEventListener("dragover", event => {
		event.preventDefault();
		over(true);
	});
	where.addEventListener("dragleave", () => over(false));
	where.addEventListener("drop", event => {
		// A browser would go to the file.
		event.preventDefault();
		over(false);
		take(event.dataTransfer);
	});
	where.addEventListener("paste", event => take(event.clipboardData));
}
listen(window);
// The frame has no scripts of its own, but most of the window.
get("report").onload = ({ target }) => {
	if (target.contentDocument)
		listen(target.contentDocument);
};
get("file").onchange = event => {
	const [file] = event.target.files;
	if (file)
		read(file.name, file);
};
get("other").onclick = ask;

module.then(() => message(""), error => message(`The page doesn't work here: ${error.message}`));
