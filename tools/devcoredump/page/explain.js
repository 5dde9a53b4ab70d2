// SPDX-License-Identifier: GPL-2.0-only
//
// What the page and its test ask of the library, which src/lib.rs exports as WebAssembly.

// As in src/lib.rs.
const FOUND = 0, TROUBLE = 2, END = 3;

// Explains `bytes`, a dump or a log, plain, gzip or Zstandard, which people know as `name`.
// Returns its documents: the verdict of each in a few words, whether it is an answer (`found`), and
// the page as HTML. Throws an Error that says what is wrong with it. `module` is the compiled
// WebAssembly.
export async function explain(module, name, bytes) {
	// WebAssembly's memory grows and never shrinks: each file has its own.
	const { exports } = await WebAssembly.instantiate(module, {});
	const put = (room, content) => {
		const at = room(content.length) >>> 0;
		new Uint8Array(exports.memory.buffer, at, content.length).set(content);
	};
	const get = (start, length) =>
		new TextDecoder().decode(new Uint8Array(exports.memory.buffer, start() >>> 0, length() >>> 0));
	const page = () => get(exports.page, exports.page_length);
	put(exports.room_for_name, new TextEncoder().encode(name));
	put(exports.room_for_file, bytes);
	const documents = [];
	for (;;) {
		const outcome = exports.next();
		if (outcome === END && documents.length)
			return documents;
		if (outcome === END)
			throw new Error("it is empty");
		if (outcome === TROUBLE)
			throw new Error(page());
		documents.push({
			verdict: get(exports.verdict, exports.verdict_length),
			found: outcome === FOUND,
			html: page(),
		});
	}
}
