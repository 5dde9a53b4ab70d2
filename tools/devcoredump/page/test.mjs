// SPDX-License-Identifier: GPL-2.0-only
//
// What the page's WebAssembly says of a file is what the tool says of it, byte for byte. ./test runs
// this, with the clone as the current directory.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "node:test";
import { gzipSync } from "node:zlib";

const page = "build/triage-page";
const golden = "tools/devcoredump/tests/golden";
const tool = resolve("build/cargo-host/debug/msm-devcoredump");
const { explain } = await import(resolve(page, "explain.js"));
const module = await WebAssembly.compile(readFileSync(join(page, "msm-devcoredump.wasm")));

const LOG = `[   12.5] Linux version 6.12.0 (x)
[  100.25] *** gpu fault: ttbr0=0000000041000000 iova=0000000100005030 dir=READ type=TRANSLATION source=CP (0,0,0,1)
[  100.5] msm_dpu 5e01000.display-controller: [drm:recover_worker [msm]] *ERROR* 7.0.2.0: hangcheck recover!
[  100.5] msm_dpu 5e01000.display-controller: [drm:recover_worker [msm]] *ERROR* 7.0.2.0: offending task: game (./game)
`;

// What `report` writes of a document of `name` in `folder`, with its exit status.
function report(folder, name, document) {
	const { status, stdout } = spawnSync(tool,
		["report", name, "--html", "-", "--document", String(document)],
		{ cwd: folder, encoding: "utf8", maxBuffer: 1 << 28 });
	return { status, html: stdout };
}

async function same(folder, name, count) {
	const documents = await explain(module, name, readFileSync(join(folder, name)));
	assert.equal(documents.length, count);
	for (const [n, { verdict, found, html }] of documents.entries()) {
		const expected = report(folder, name, n);
		// A page is too long to be printed.
		const lines = expected.html.split("\n");
		const line = html.split("\n").find((line, at) => line !== lines[at]);
		assert.ok(html === expected.html, `${name}, document ${n}: ${line?.slice(0, 200)}`);
		assert.equal(found, expected.status === 0);
		assert.ok(html.includes(`>${verdict} <`), verdict);
	}
	assert.equal(report(folder, name, count).status, 2);
}

test("WebAssembly imports nothing", () => {
	assert.deepEqual(WebAssembly.Module.imports(module), []);
});

for (const variant of ["rust", "stock"])
	test(`golden dumps of the ${variant} module`, async () => {
		const names = readdirSync(join(golden, variant)).filter(name => name.endsWith(".zst"));
		assert.ok(names.length > 15);
		for (const name of names)
			await same(join(golden, variant), name, 1);
	});

test("other files", async () => {
	const folder = mkdtempSync(join(tmpdir(), "page-"));
	try {
		const dump = execFileSync("zstd", ["-dc", join(golden, "rust/hang.zst")],
			{ maxBuffer: 1 << 28 });
		for (const [name, bytes, count] of [
			["plain", dump, 1],
			["two", Buffer.concat([dump, dump]), 2],
			["cut", dump.subarray(0, dump.length / 2), 1],
			["dump.gz", gzipSync(dump), 1],
			["log.txt", LOG, 1],
			["<img src=x onerror=alert(1)> & ü", LOG, 1],
			["nothing of ours", "Dear diary", 1],
			["not text", Buffer.from([0, 255, 254, 10, 128]), 1],
		]) {
			writeFileSync(join(folder, name), bytes);
			await same(folder, name, count);
		}
		for (const bytes of [gzipSync(dump).subarray(0, 1000), Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 9])]) {
			writeFileSync(join(folder, "broken"), bytes);
			assert.equal(report(folder, "broken", 0).status, 2);
			await assert.rejects(explain(module, "broken", bytes), Error);
		}
		await assert.rejects(explain(module, "empty", Buffer.alloc(0)), /it is empty/);
	} finally {
		rmSync(folder, { recursive: true });
	}
});
