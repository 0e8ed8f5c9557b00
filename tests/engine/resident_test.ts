import { assert, assertEquals } from "@std/assert";
import { unwrittenParts } from "../../lib/engine/resident.ts";
import { withFolder } from "../support/folder.ts";
import { inProcess, tensorflowLibrary } from "../support/in_process.ts";

const ignore = Deno.build.os !== "linux";

/** Resident megabytes of TensorFlow's code, and the bits of a compiled product: after a run, released, after another. */
const RUN = `
  import { releaseGarbage, releasePages } from "./lib/engine/resident.ts";
  const library = Deno.env.get("NEPA_TENSORFLOW")!;
  const engine = await useEngine("tensorflow");
  const resident = () => {
    let ours = false, sum = 0;
    for (const line of Deno.readTextFileSync("/proc/self/smaps").split("\\n")) {
      if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) ours = line.includes(" r-xp ") && line.endsWith(library);
      else if (ours && line.startsWith("Rss:")) sum += Number(/\\d+/.exec(line)![0]) / 1024;
    }
    return sum;
  };
  const product = engine.compile((x: tf.Tensor2D) => tf.softmax(tf.matMul(x, x, true)));
  const x = tf.tensor2d([[1, 2, 3], [4, 5, 6]]);
  const bits = async () => {
    const y = await product(x);
    return [...new Uint32Array(y.dataSync().buffer)].join();
  };
  const first = await bits(), before = resident();
  releasePages(library, "TF_Version");
  releaseGarbage();
  const after = resident();
  console.log(JSON.stringify({ before, after, same: first === await bits() }));`;

Deno.test(
  "code that the start has read is let go of, and read again where it is needed",
  { ignore },
  async () => {
    const { stdout, stderr } = await inProcess(RUN, { NEPA_TENSORFLOW: await tensorflowLibrary() });
    assertEquals(stderr, "");
    const { before, after, same } = JSON.parse(stdout);
    assert(after < before / 4, stdout);
    assert(same);
  },
);

/** A library of 64 bits: code, data that is written, and what its loader is told. */
function library(...dynamic: [bigint, bigint][]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(64 + 3 * 56 + 16 * dynamic.length), view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46]);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 3, true);
  const parts = [[1, 5, 0, 0x1000, 0x5000], [1, 6, 0, 0x8000, 0x2000], [
    2,
    6,
    64 + 3 * 56,
    0x8000,
    16 * dynamic.length,
  ]];
  for (const [i, [type, flags, offset, address, size]] of parts.entries()) {
    const at = 64 + 56 * i;
    view.setUint32(at, type!, true);
    view.setUint32(at + 4, flags!, true);
    for (const [place, value] of [[8, offset], [16, address], [40, size]]) {
      view.setBigUint64(at + place!, BigInt(value!), true);
    }
  }
  for (const [i, [tag, value]] of dynamic.entries()) {
    view.setBigUint64(64 + 3 * 56 + 16 * i, tag, true);
    view.setBigUint64(64 + 3 * 56 + 16 * i + 8, value, true);
  }
  return bytes;
}

Deno.test("only parts that nobody can have written are let go of", async () => {
  await withFolder(async (folder) => {
    const path = `${folder}/library.so`;
    for (
      const [bytes, expected] of [
        [library([5n, 0n]), [[0x1000, 0x5000]]],
        [library([22n, 0n]), []], // code is changed as it is loaded
        [library([30n, 4n]), []],
        [library([30n, 8n]), [[0x1000, 0x5000]]],
        [new Uint8Array(200), []],
      ] as const
    ) {
      await Deno.writeFile(path, bytes);
      assertEquals(unwrittenParts(path), expected.map((part) => [...part] as [number, number]));
    }
  });
});
