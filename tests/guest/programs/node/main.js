// Node: promises, timers, streams to /workspace, a WebAssembly module, crypto, loopback, a worker thread.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs/promises");
const net = require("node:net");
const zlib = require("node:zlib");
const { Worker } = require("node:worker_threads");

// (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
const ADD = Buffer.from(
    "0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b", "hex");

function loopback() {
    return new Promise((resolve, reject) => {
        const server = net.createServer((socket) => socket.end("hello"));
        server.on("error", reject);
        server.listen(0, "127.0.0.1", () => {
            let text = "";
            const client = net.connect(server.address().port, "127.0.0.1");
            client.on("error", reject);
            client.on("data", (data) => { text += data; });
            client.on("end", () => { server.close(); resolve(text); });
        });
    });
}

function worker() {
    return new Promise((resolve, reject) => {
        const thread = new Worker(
            "require('node:worker_threads').parentPort.postMessage([1, 2, 3].map((n) => n * n))", { eval: true });
        thread.on("message", resolve);
        thread.on("error", reject);
    });
}

// Reads /proc/self/stat, which the guest lacks.
function memory() {
    try {
        return process.memoryUsage().rss > 0;
    } catch (error) {
        return error.code;
    }
}

async function main() {
    await fs.writeFile("/workspace/node.txt", "x".repeat(100000));
    console.log("size", (await fs.stat("/workspace/node.txt")).size);
    await fs.rename("/workspace/node.txt", "/workspace/moved.txt");
    console.log("names", (await fs.readdir("/workspace")).includes("moved.txt"));
    console.log("sha256", crypto.createHash("sha256").update("guest").digest("hex").slice(0, 16));
    console.log("gzip", zlib.gunzipSync(zlib.gzipSync(Buffer.alloc(100000))).length);
    const { instance } = await WebAssembly.instantiate(ADD);
    console.log("wasm", instance.exports.add(40, 2));
    console.log("big", (3n ** 1000n % 1000003n).toString());
    await new Promise((resolve) => setTimeout(resolve, 30));
    console.log("worker", await worker());
    console.log("loopback", await loopback());
    console.log("memory", memory());
    console.log("END");
    process.exit(0);
}

main().catch((error) => { console.log("failed:", error.code || error.message); process.exit(1); });
