import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  type Dtype,
  type HostArray,
  type HostTensor,
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
} from "../../lib/files/safetensors.ts";
import { checkRead, file, mutant } from "../support/mutate.ts";

const bits: Record<Dtype, number> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** Names as they come, and those that are properties of objects. */
const names = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: "binary" }),
  fc.constantFrom("__proto__", "constructor", "toString", "0", "", "a.b/c"),
).filter((name) => name !== "__metadata__");

/** A header's entry and its bytes: any type, up to four axes, axes of length 0 among them. */
const entries = fc.record({
  dtype: fc.constantFrom(...Object.keys(bits) as Dtype[]),
  shape: fc.array(fc.nat({ max: 4 }), { maxLength: 4 }),
}).filter(({ dtype, shape }) => shape.reduce((product, side) => product * side, bits[dtype]) % 8 === 0)
  .chain(({ dtype, shape }) => {
    const length = shape.reduce((product, side) => product * side, bits[dtype]) / 8;
    return fc.record({
      dtype: fc.constant(dtype),
      shape: fc.constant(shape),
      bytes: fc.uint8Array({ minLength: length, maxLength: length }),
    });
  });

const contents = fc.uniqueArray(fc.tuple(names, entries), { selector: ([name]) => name, maxLength: 6 });
const texts = fc.dictionary(names, fc.string({ unit: "binary" }), { maxKeys: 3 });

type Contents = [string, { dtype: string; shape: number[]; bytes: Uint8Array }][];

/** The file as another writer would make it: in the order given. */
function written(tensors: Contents, metadata: Record<string, string>, padding = ""): Uint8Array<ArrayBuffer> {
  let at = 0;
  const members = tensors.map(([name, { dtype, shape, bytes }]) =>
    `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, at += bytes.length] })}`
  );
  const text = `{${[`"__metadata__":${JSON.stringify(metadata)}`, ...members].join(", ")}}${padding}`;
  return file(text, tensors.flatMap(([, { bytes }]) => [...bytes]));
}

/** Fewer runs than the default 100 where a run is many. */
const some = { numRuns: 40 };

Deno.test("any tensors that another writer wrote are read, and come back from our writer", () => {
  fc.assert(
    fc.property(contents, texts, fc.stringMatching(/^[ \n\t]{0,9}$/), (tensors, metadata, padding) => {
      const read = readSafetensors(written(tensors, metadata, padding));
      assertEquals(new Set(read.tensors.keys()), new Set(tensors.map(([name]) => name)));
      assertEquals(Object.entries(read.metadata), Object.entries(metadata));
      const again = readSafetensors(writeSafetensors(read.tensors, read.metadata));
      assertEquals(Object.entries(again.metadata), Object.entries(metadata));
      for (const [name, { dtype, shape, bytes }] of tensors) {
        const tensor = read.tensors.get(name)!, raw = new Uint8Array(tensor.data.buffer);
        assertEquals([tensor.dtype, tensor.shape], [dtype, shape]);
        if (dtype !== "F16" && dtype !== "BF16") assertEquals(raw, bytes);
        assertEquals(again.tensors.get(name), tensor);
      }
    }),
  );
});

const arrays: fc.Arbitrary<HostArray> = fc.oneof(
  fc.float32Array(),
  fc.float64Array(),
  fc.int8Array(),
  fc.int16Array(),
  fc.int32Array(),
  fc.bigInt64Array(),
  fc.uint8Array(),
  fc.uint16Array(),
  fc.uint32Array(),
  fc.bigUint64Array(),
);

Deno.test("any arrays that are written are read again, each aligned to its numbers", () => {
  fc.assert(fc.property(fc.array(arrays, { maxLength: 6 }), (data) => {
    const tensors = new Map<string, HostTensor>(
      data.map((data, i) => [`x${i}`, { shape: [1, data.length], data }]),
    );
    const bytes = writeSafetensors(tensors), read = readSafetensors(bytes).tensors;
    assertEquals(new DataView(bytes.buffer).getUint8(0) % 8, 0);
    let at = 0;
    for (const [name, { shape, data }] of read) {
      assertEquals([shape, data], [tensors.get(name)!.shape, tensors.get(name)!.data]);
      assertEquals(at % data.BYTES_PER_ELEMENT, 0);
      at += data.byteLength;
    }
  }));
});

Deno.test("half precision and bfloat16 are the nearest to any float32, and exact when read and written again", () => {
  const floats = fc.float32Array({ noNaN: true, maxLength: 50 });
  fc.assert(fc.property(floats, fc.constantFrom("F16", "BF16"), (data, dtype) => {
    const shape = [data.length], tensors = new Map([["x", { dtype, shape, data }]] as const);
    const bytes = writeSafetensors(tensors as Map<string, HostTensor>), read = readSafetensors(bytes).tensors;
    assertEquals(writeSafetensors(read), bytes);
    const [digits, least] = dtype === "F16" ? [11, 2 ** -24] : [8, 2 ** -133];
    for (const [i, got] of (read.get("x")!.data as Float32Array).entries()) {
      if (!Number.isFinite(got)) continue;
      assert(
        Math.abs(got - data[i]!) <= Math.max(Math.abs(data[i]!) * 2 ** -digits, least / 2),
        `${data[i]}: ${got}`,
      );
    }
  }));
});

Deno.test("a file cut off anywhere, or with anything after it, is refused", () => {
  fc.assert(
    fc.property(contents, texts, fc.uint8Array({ minLength: 1, maxLength: 9 }), (tensors, metadata, more) => {
      const bytes = written(tensors, metadata);
      const body = tensors.reduce((sum, [, { bytes }]) => sum + bytes.length, 0);
      for (let length = 0; length < bytes.length; length += length < bytes.length - body ? 7 : 1) {
        assertThrows(() => readSafetensors(bytes.subarray(0, length)), SafetensorsError);
      }
      assertThrows(() => readSafetensors(new Uint8Array([...bytes, ...more])), SafetensorsError);
    }),
    some,
  );
});

Deno.test("bytes that no tensor covers, or two, are refused", () => {
  const cuts = fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 6 }),
    moved = fc.integer({ min: -2, max: 2 });
  fc.assert(
    fc.property(cuts, fc.nat(), moved, fc.boolean(), (cuts, which, by, end) => {
      const sorted = [0, ...cuts].sort((a, b) => a - b), size = sorted.at(-1)!;
      const offsets = sorted.slice(1).map((to, i) => [sorted[i]!, to] as [number, number]);
      offsets[which % offsets.length]![end ? 1 : 0] += by;
      const entries = offsets.map(([from, to], i): [string, unknown] => [
        `x${(i * 5 + which) % 7}`, // in any order
        { dtype: "U8", shape: [Math.max(to - from, 0)], data_offsets: [from, to] },
      ]);
      const header = Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
      assertEquals(checkRead(file(header, Array(size).fill(7))), by === 0);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("any bytes, and any JSON as a header, are refused by name or whole", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void checkRead(bytes)));
  fc.assert(fc.property(fc.json(), fc.uint8Array(), (json, body) => void checkRead(file(json, body))));
  const near = fc.dictionary(
    names,
    fc.record({
      dtype: fc.oneof(fc.constantFrom("U8", "F32", "F4"), fc.jsonValue()),
      shape: fc.oneof(fc.array(fc.maxSafeNat(), { maxLength: 3 }), fc.jsonValue()),
      data_offsets: fc.oneof(fc.tuple(fc.constant(0), fc.nat({ max: 9 })), fc.jsonValue()),
    }),
    { maxKeys: 2 },
  );
  fc.assert(fc.property(near, fc.uint8Array(), (header, body) => void checkRead(file(header, body))), {
    numRuns: 500,
  });
});

Deno.test("two thousand files broken at random are refused by name or whole", () => {
  const whole = Array.from({ length: 2000 }, (_, i) => checkRead(mutant(i))).filter(Boolean).length;
  assert(whole > 50 && whole < 1000, `${whole} whole`);
});
