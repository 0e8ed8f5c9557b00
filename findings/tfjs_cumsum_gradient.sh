#!/usr/bin/env bash
# TensorFlow.js 4.22.0: the gradient of tf.cumsum along any axis but the last comes out transposed.
#
# tf.cumsum moves its axis to the end, sums there, and moves it back. Its gradient function moves the axis to the end but not
# back. For x [3, 3] and axis 0 no shape differs, so nothing is said, and the numbers are wrong. Expected, for the loss
# sum(w * cumsum(x, 0)): dx[i][j] = sum of w[k][j] over k >= i.
#
# Seen with @tensorflow/tfjs 4.22.0 (cpu backend), Node 20: the transpose of what is right.
#   got      [[12,11,7],[15,13,8],[18,15,9]]
#   expected [[12,15,18],[11,13,15],[7,8,9]]
#
# Exits 0 while that is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund @tensorflow/tfjs@4.22.0 >/dev/null
cat >check.js <<'JS'
const tf = require("@tensorflow/tfjs");
(async () => {
  await tf.setBackend("cpu");
  const w = tf.tensor2d([[1, 2, 3], [4, 5, 6], [7, 8, 9]]);
  const got = tf.grad((x) => tf.sum(tf.mul(w, tf.cumsum(x, 0))))(tf.zeros([3, 3])).arraySync();
  const expected = [[12, 15, 18], [11, 13, 15], [7, 8, 9]];
  console.log("tfjs", tf.version.tfjs, "got", JSON.stringify(got), "expected", JSON.stringify(expected));
  process.exit(JSON.stringify(got) === "[[12,11,7],[15,13,8],[18,15,9]]" ? 0 : 1);
})();
JS
node check.js 2>/dev/null
