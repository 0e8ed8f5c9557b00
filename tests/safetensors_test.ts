import { assert, assertEquals, assertThrows } from "@std/assert";
import { readSafetensors, SafetensorsError, writeSafetensors } from "../lib/safetensors.ts";

/** A file with this header and these bytes. */
function file(header: unknown, body: ArrayLike<number> = []): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + body.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(body, 8 + text.length);
  return bytes;
}

const fixture = new URL("fixtures/pretrain-a/model.safetensors", import.meta.url);

Deno.test("a file by PyTorch is read and written back byte for byte", async () => {
  const bytes = await Deno.readFile(fixture), { tensors, metadata } = readSafetensors(bytes);
  assertEquals(metadata, { format: "pt" });
  assertEquals(tensors.get("vit_nepa.embeddings.patch_embeddings.projection.weight")!.shape, [32, 3, 4, 4]);
  assertEquals(writeSafetensors(tensors, metadata), bytes);
});

Deno.test("what is written is read again, of every type", () => {
  const tensors = new Map([
    ["bytes", { shape: [3], data: new Uint8Array([1, 2, 255]) }],
    ["floats", { shape: [2, 1], data: new Float32Array([0.1, -1e30]) }],
    ["whole", { shape: [], data: new Int32Array([-7]) }],
    ["none", { shape: [0, 4], data: new Float32Array(0) }],
  ]);
  const { tensors: read, metadata } = readSafetensors(writeSafetensors(tensors, { made: "here" }));
  assertEquals([...read], [...tensors]);
  assertEquals(metadata, { made: "here" });
});

Deno.test("half precision and bfloat16 become float32", () => {
  const halves = [[0x3c00, 1], [0xc000, -2], [0x3555, 0.333251953125], [0x0001, 2 ** -24], [0x7bff, 65504], [
    0x8000,
    -0,
  ], [0xfc00, -Infinity]];
  const brains = [[0x3f80, 1], [0xc049, -3.140625], [0x0001, 9.183549615799121e-41], [0x7f80, Infinity]];
  for (const [dtype, pairs] of [["F16", halves], ["BF16", brains]] as const) {
    const body = pairs.flatMap(([bits]) => [bits! & 255, bits! >> 8]);
    const bytes = file({ x: { dtype, shape: [pairs.length], data_offsets: [0, body.length] } }, body);
    assertEquals([...readSafetensors(bytes).tensors.get("x")!.data], pairs.map(([, value]) => value!));
  }
  const nan = readSafetensors(file({ x: { dtype: "F16", shape: [1], data_offsets: [0, 2] } }, [1, 0x7e]));
  assert(Number.isNaN(nan.tensors.get("x")!.data[0]));
});

Deno.test("broken files are refused with what is wrong", async () => {
  const whole = await Deno.readFile(fixture),
    f32 = (from: number, to: number) => ({ dtype: "F32", shape: [1], data_offsets: [from, to] });
  const cases: [Uint8Array, string][] = [
    [whole.slice(0, 5), "expected 8 bytes or more, got 5"],
    [whole.slice(0, 1000), "expected a header of"],
    [whole.slice(0, -4), "cut off"],
    [new Uint8Array([...whole, 0]), "bytes of numbers, got"],
    [file("{"), "expected a JSON header"],
    [file([]), "expected a JSON header"],
    [file({ x: { dtype: "F64", shape: [1], data_offsets: [0, 8] } }, Array(8).fill(0)), "got F64"],
    [file({ x: f32(0, 8) }, Array(8).fill(0)), "x: expected 4 bytes for [1], got 8"],
    [file({ x: f32(0, 4), y: f32(8, 12) }, Array(12).fill(0)), "y: expected to begin at byte 4, got 8"],
    [file({ x: f32(0, 4), y: f32(0, 4) }, Array(4).fill(0)), "y: expected to begin at byte 4, got 0"],
    [
      file({ x: { dtype: "F32", shape: [-1], data_offsets: [0, 4] } }, Array(4).fill(0)),
      "expected a shape and two offsets",
    ],
    [file({ x: 1 }), "expected numbers of type"],
  ];
  for (const [bytes, message] of cases) assertThrows(() => readSafetensors(bytes), SafetensorsError, message);
});

Deno.test("a shape that does not match its numbers is not written", () => {
  const tensors = new Map([["x", { shape: [3], data: new Float32Array(2) }]]);
  assertThrows(() => writeSafetensors(tensors), RangeError, "x: expected 3 numbers for [3], got 2");
});
