#!/usr/bin/env bash
# TensorFlow.js 4.22.0, WebAssembly backend: tf.fused.matMul with transposeA and a bias gives wrong values, without an error.
# The cpu backend is right.
#
# a [2, 3], b [2, 4], transposeA, bias [4]: expected transpose(a) b + bias, [3, 4].
#
# Seen with @tensorflow/tfjs and @tensorflow/tfjs-backend-wasm 4.22.0, Node 20: only the first row is right.
#   cpu  [[11,24,30,45],[12,25,30,47],[13,26,30,49]]
#   wasm [[11,24,30,45],[42,45,40,47],[43,46,40,49]]
#
# Exits 0 while that is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0 >/dev/null
cat >check.js <<'JS'
const tf = require("@tensorflow/tfjs");
require("@tensorflow/tfjs-backend-wasm");
(async () => {
  const product = async (backend) => {
    await tf.setBackend(backend);
    const a = tf.tensor2d([[1, 2, 3], [4, 5, 6]]), b = tf.tensor2d([[1, 0, 0, 1], [0, 1, 0, 1]]);
    const bias = tf.tensor1d([10, 20, 30, 40]);
    return JSON.stringify(tf.fused.matMul({ a, b, transposeA: true, transposeB: false, bias }).arraySync());
  };
  const cpu = await product("cpu"), wasm = await product("wasm");
  console.log("tfjs", tf.version.tfjs, "cpu", cpu, "wasm", wasm);
  process.exit(cpu === "[[11,24,30,45],[12,25,30,47],[13,26,30,49]]" && wasm !== cpu ? 0 : 1);
})();
JS
node check.js 2>/dev/null
