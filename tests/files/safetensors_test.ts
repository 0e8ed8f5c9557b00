import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type Dtype,
  type HostArray,
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
} from "../../lib/files/safetensors.ts";
import { file } from "../support/mutate.ts";

const fixture = new URL("../fixtures/pretrain-a/model.safetensors", import.meta.url);
const every = new URL("../fixtures/safetensors/every.safetensors", import.meta.url);

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0));
const zeros = (n: number): number[] => Array(n).fill(0);
const f32 = (from: number, to: number, shape = [(to - from) / 4]) => ({
  dtype: "F32",
  shape,
  data_offsets: [from, to],
});

Deno.test("files by Python's safetensors are read and written back byte for byte", async () => {
  for (const path of [fixture, every]) {
    const bytes = await Deno.readFile(path), { tensors, metadata } = readSafetensors(bytes);
    assertEquals(metadata, { format: "pt" });
    assertEquals(writeSafetensors(tensors, metadata), bytes);
  }
  const { tensors } = readSafetensors(await Deno.readFile(fixture));
  assertEquals(tensors.get("vit_nepa.embeddings.patch_embeddings.projection.weight")!.shape, [32, 3, 4, 4]);
});

Deno.test("every type of number has the value that Python gave it", async () => {
  const { tensors } = readSafetensors(await Deno.readFile(every)), numbers = [0, 1, 2, 5, 100, 127];
  const arrays = {
    U8: Uint8Array,
    I8: Int8Array,
    I16: Int16Array,
    U16: Uint16Array,
    I32: Int32Array,
    U32: Uint32Array,
    I64: BigInt64Array,
    U64: BigUint64Array,
    F16: Float32Array,
    BF16: Float32Array,
    F32: Float32Array,
    F64: Float64Array,
  };
  for (const [dtype, array] of Object.entries(arrays)) {
    const tensor = tensors.get(dtype)!, below = tensors.get(`${dtype} below zero`);
    assertEquals([tensor.dtype, tensor.shape], [dtype as Dtype, [2, 3]]);
    assert(tensor.data instanceof array, dtype);
    assertEquals(Array.from(tensor.data as Iterable<unknown>, Number), numbers, dtype);
    if (below) assertEquals(Array.from(below.data as Iterable<unknown>, Number), [-1, -127], dtype);
  }
  const data = (name: string) => tensors.get(name)!.data;
  assertEquals(data("I64 low"), BigInt64Array.of(-(2n ** 63n)));
  assertEquals(data("U64 high"), BigUint64Array.of(2n ** 64n - 1n));
  assertEquals(data("F16 limits"), Float32Array.of(65504, 2 ** -24, Infinity, -Infinity, -0));
  assertEquals(data("BF16 limits"), Float32Array.of(2 ** -133, Infinity, -3.140625));
  assertEquals([tensors.get("BOOL")!.dtype, data("BOOL")], ["BOOL", Uint8Array.of(1, 0, 1)]);
  assertEquals(data("C64"), new Uint8Array(Float32Array.of(1, 2).buffer));
  assertEquals(data("F8_E4M3")[1], 0x38);
  assertEquals([tensors.get("empty")!.shape, data("empty").length], [[0, 4], 0]);
  assertEquals([tensors.get("no axes")!.shape, data("no axes")], [[], Int32Array.of(-7)]);
});

Deno.test("a tensor named __proto__ is a tensor, and so is metadata of that name a text", async () => {
  const { tensors } = readSafetensors(await Deno.readFile(every));
  for (const name of ["__proto__", "constructor", "1", "", 'quote " and \\ and \n', "é, 文, 🦕"]) {
    assertEquals(tensors.get(name)!.data, Float32Array.of([...name].length), name);
  }
  const bytes = file(
    '{"__metadata__":{"__proto__":"x"},"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    [9],
  );
  const read = readSafetensors(bytes);
  assertEquals([...read.tensors.keys()], ["__proto__"]);
  assertEquals(Object.entries(read.metadata), [["__proto__", "x"]]);
  assertEquals(Object.getPrototypeOf(read.metadata), Object.prototype);
  assertEquals(({} as Record<string, unknown>).dtype, undefined);
  const written = writeSafetensors(read.tensors, read.metadata);
  assertEquals([...readSafetensors(written).tensors], [...read.tensors]);
  const inherited = file('{"x":{"__proto__":{"dtype":"U8"},"shape":[1],"data_offsets":[0,1]}}', [9]);
  assertThrows(() => readSafetensors(inherited), SafetensorsError, "x: expected numbers of type");
});

Deno.test("numbers that are not numbers stay so in half precision and bfloat16", () => {
  for (const dtype of ["F16", "BF16"] as const) {
    const bytes = writeSafetensors(new Map([["x", { dtype, shape: [2], data: Float32Array.of(NaN, 1) }]]));
    assertEquals(readSafetensors(bytes).tensors.get("x")!.data, Float32Array.of(NaN, 1));
  }
});

Deno.test("float32 becomes the nearest bfloat16, the even one of two", () => {
  const cases = [[1 + 2 ** -8, 1], [1 + 3 * 2 ** -8, 1 + 2 ** -6], [1 + 1.01 * 2 ** -8, 1 + 2 ** -7], [
    -3.3895314e38,
    -3.3895314e38,
  ], [3.4e38, Infinity]];
  const data = Float32Array.from(cases, ([x]) => x!);
  const bytes = writeSafetensors(new Map([["x", { dtype: "BF16", shape: [data.length], data }]]));
  assertEquals(readSafetensors(bytes).tensors.get("x")!.data, Float32Array.from(cases, ([, y]) => y!));
});

// The Rust crate's own tests, by their names: first what it writes, then what it reads and what it refuses.

Deno.test("the crate's test_serialization, forced_alignement, fp4 and empty: the same bytes are written", () => {
  const numbers = Float32Array.of(0, 1, 2, 3, 4, 5), body = [...new Uint8Array(numbers.buffer)];
  const written = (name: string, shape: number[], data: HostArray, dtype?: Dtype) =>
    writeSafetensors(new Map([[name, { shape, data, ...(dtype && { dtype }) }]]), {});
  assertEquals(
    written("attn.0", [1, 2, 3], numbers),
    file('{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}', body),
  );
  assertEquals(
    written("attn0", [1, 1, 2, 3], numbers),
    file('{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ', body),
  );
  assertEquals(
    written("attn.0", [1, 2], Uint8Array.of(0), "F4"),
    file('{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    ', [0]),
  );
  assertEquals(writeSafetensors(new Map(), {}), file("{}      "));
  assertEquals(
    writeSafetensors(new Map(), { framework: "pt" }),
    file('{"__metadata__":{"framework":"pt"}}     '),
  );
  assertThrows(() => written("x", [1, 3], Uint8Array.of(0, 1), "F4"), RangeError, "expected 1.5 bytes");
  assertThrows(() => written("x", [1, 2], Uint8Array.of(0, 1), "F4"), RangeError, "expected 1 bytes");
  assertThrows(
    () => writeSafetensors(new Map(), { long: "a".repeat(1e8) }),
    RangeError,
    "a header of at most",
  );
});

Deno.test("the crate's test_gpt2: 148 tensors are written and read again", () => {
  const tensors = new Map(
    Array.from(
      { length: 148 },
      (_, i) => [`h.${i}.weight`, { shape: [i, 7], data: new Float32Array(7 * i).fill(i) }],
    ),
  );
  const { tensors: read } = readSafetensors(writeSafetensors(tensors));
  assertEquals(read.size, 148);
  for (const [name, { shape, data }] of tensors) assertEquals(read.get(name), { dtype: "F32", shape, data });
});

const square = '{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}';

Deno.test("what the crate reads is read: no axes, no numbers, padding after the header", () => {
  const read = (bytes: Uint8Array) => [...readSafetensors(bytes).tensors];
  const whole = read(file(square, zeros(16)));
  assertEquals(whole, [["test", { dtype: "I32", shape: [2, 2], data: new Int32Array(4) }]]);
  const scalar = file('{"test":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}', zeros(4));
  assertEquals(read(scalar), [["test", { dtype: "I32", shape: [], data: new Int32Array(1) }]]);
  const empty = file('{"test":{"dtype":"I32","shape":[2,0],"data_offsets":[0, 0]}}');
  assertEquals(read(empty), [["test", { dtype: "I32", shape: [2, 0], data: new Int32Array(0) }]]);
  assertEquals(read(file("{}\r \t\n")), []);
  assertEquals(read(file('{"__metadata__":null}')), []);
});

const refused: Record<string, [bytes: Uint8Array, message: string][]> = {
  "json_attack, ten tensors of the same bytes": [
    [
      file(Object.fromEntries(zeros(10).map((_, i) => [`weight_${i}`, f32(0, 16, [2, 2])])), zeros(16)),
      "expected to begin at byte 16, got 0",
    ],
  ],
  "metadata_incomplete_buffer": [
    [
      file(square, [...zeros(16), ...ascii("extra_bogus_data_for_polyglot_file")]),
      "expected 16 bytes of numbers, got 50",
    ],
    [file(square, zeros(14)), "cut off: expected 16 bytes of numbers, got 14"],
  ],
  "header_too_large": [
    [
      new Uint8Array([...ascii("<\0\0\0\0\xff\xff\xff"), ...ascii(square), ...zeros(16)]),
      "a header of at most 100000000 bytes",
    ],
    [ascii("\x01\xe1\xf5\x05\0\0\0\0{"), "a header of at most 100000000 bytes, got 100000001"],
  ],
  "header_too_small": [[new Uint8Array(0), "expected 8 bytes or more, got 0"], [new Uint8Array(7), "got 7"]],
  "invalid_header_length": [[ascii("<\0\0\0\0\0\0\0"), "expected a header of 60 bytes, got a file of 8"]],
  "invalid_header_non_utf8": [
    [ascii("\x01\0\0\0\0\0\0\0\xff"), "begins with {"],
    [ascii("\x04\0\0\0\0\0\0\0{\xff} "), "expected a JSON object"],
  ],
  "invalid_header_not_json": [[file("{"), "expected a JSON object"], [file(""), "begins with {"]],
  "invalid_info": [
    [
      file('{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0, 4]}}'),
      "test: expected 16 bytes for [2,2], got 4",
    ],
  ],
  "validation_overflow": [18446744073709551614n, 9223372036854775807n, 9007199254740991n].map((side) => [
    file(`{"test":{"dtype":"I32","shape":[2,${side}],"data_offsets":[0,16]}}`, zeros(16)),
    "test: expected",
  ]),
  "fp4_misaligned": [
    [
      file({ x: { dtype: "F4", shape: [1, 3], data_offsets: [0, 2] } }, zeros(2)),
      "expected whole bytes, got 12 bits",
    ],
  ],
  "pread: truncated_header, data_offset_overflow": [
    [file(square).subarray(0, 38), "cut off: expected a header of 60 bytes"],
    [
      file('{"liar":{"dtype":"F32","shape":[1024,1024],"data_offsets":[0,4194304]}}', [0]),
      "cut off: expected 4194304",
    ],
  ],
  "and what the format's text forbids": [
    [file(`\t\n${square}`, zeros(16)), "begins with {"],
    [file(`\ufeff${square}`, zeros(16)), "begins with {"],
    [file("[]"), "begins with {"],
    [file(`${square}\0\0`, zeros(16)), "expected a JSON object"],
    [file(`${square.slice(0, -1)},${square.slice(1)}`, zeros(16)), "a key twice"],
    [
      file(
        square.replace(
          "{",
          '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},',
        ),
        zeros(16),
      ),
      "a key twice",
    ],
    [file(square.replace('"I32",', '"I32","dtype":"I32",'), zeros(16)), "a key twice"],
    [file('{"__metadata__":{"a":"b","a":"b"}}'), "a key twice"],
    [file('{"__metadata__":{},"__metadata__":{}}'), "a key twice"],
    [file('{"__metadata__":{"a":1}}'), "__metadata__: expected texts"],
    [file('{"__metadata__":["a"]}'), "__metadata__: expected texts"],
    [file('{"__metadata__":"a"}'), "__metadata__: expected texts"],
    [file('{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "surrogate"],
    [file(`{"a":${"[".repeat(1e5)}${"]".repeat(1e5)}}`), "expected a JSON object"],
    [file({ x: f32(0, 4), y: f32(8, 12) }, zeros(12)), "y: expected to begin at byte 4, got 8"],
    [file({ x: f32(0, 8), y: f32(4, 8) }, zeros(8)), "y: expected to begin at byte 8, got 4"],
    [file({ x: f32(4, 8) }, zeros(8)), "x: expected to begin at byte 0, got 4"],
    [file({ x: f32(4, 0, [1]) }, zeros(4)), "x: expected 4 bytes for [1], got -4"],
  ],
  "entries of another form": [
    ...["F31", "f32", "__proto__", "constructor", ["F32"], 1, null].map((dtype): [Uint8Array, string] => [
      file({ x: { dtype, shape: [1], data_offsets: [0, 4] } }, zeros(4)),
      `I64, U64, got ${JSON.stringify(dtype)}`,
    ]),
    ...["-1", "1.0", "1e0", "1E0", "-0"].map((side): [Uint8Array, string] => [
      file(`{"x":{"dtype":"F32","shape":[${side}],"data_offsets":[0,4]}}`, zeros(4)),
      "a number that is not whole, or not written in digits",
    ]),
    ...['"1"', "null", "[1]", "1000000000000000000000"].map((side): [Uint8Array, string] => [
      file(`{"x":{"dtype":"F32","shape":[${side}],"data_offsets":[0,4]}}`, zeros(4)),
      "x: expected a shape and two offsets",
    ]),
    ...["[0]", "[0,4,4]", "{}", "4", "[0,null]"].map((offsets): [Uint8Array, string] => [
      file(`{"x":{"dtype":"F32","shape":[1],"data_offsets":${offsets}}}`, zeros(4)),
      "x: expected a shape and two offsets",
    ]),
    ...[1, null, "F32", [], ["F32", [1], [0, 4]]].map((entry): [Uint8Array, string] => [
      file({ x: entry }, zeros(4)),
      "x: expected numbers of type BOOL",
    ]),
  ],
};

for (const [name, cases] of Object.entries(refused)) {
  Deno.test(`refused, as the crate does: ${name}`, () => {
    for (const [bytes, message] of cases) {
      assertThrows(() => readSafetensors(bytes), SafetensorsError, message);
    }
  });
}

Deno.test("a hundred thousand tensors of the same bytes are refused within seconds", () => {
  const header = Object.fromEntries(
    Array.from({ length: 1e5 }, (_, i) => [`weight_${i}`, f32(0, 160000, [200, 200])]),
  );
  const bytes = file(header, new Uint8Array(160000)), start = performance.now();
  assertThrows(() => readSafetensors(bytes), SafetensorsError, "expected to begin at byte 160000, got 0");
  assert(performance.now() - start < 20_000); // under a second on an idle machine
});

Deno.test("a header that would become gigabytes is refused before it does; a long text in it is read", () => {
  const keys = Array.from({ length: 250_001 }, (_, i) => `"${i}":{"a":0,"b":0,"c":0}`);
  const refused = {
    [`{${keys}}`]: "more than 1000000 keys",
    [`{"a":${"[".repeat(33)}`]: "nested more than 32 deep",
  };
  for (const [header, message] of Object.entries(refused)) {
    assertThrows(() => readSafetensors(file(header)), SafetensorsError, `expected a JSON object: ${message}`);
  }
  const { metadata } = readSafetensors(file(`{"__metadata__":{"a":"${"\\u0041\\n".repeat(1e6)}"}}`));
  assertEquals(metadata.a!.length, 2e6);
});

Deno.test("what no reader would take is not written", () => {
  const write = (name: string, tensor: { shape: number[]; data: HostArray; dtype?: Dtype }) => () =>
    writeSafetensors(new Map([[name, tensor]]));
  const data = new Float32Array(2);
  assertThrows(write("x", { shape: [3], data }), RangeError, "x: expected 12 bytes for [3] of F32, got 8");
  assertThrows(write("x", { shape: [-1, -2], data }), RangeError, "x: expected 8 bytes for [-1,-2]");
  assertThrows(write("__metadata__", { shape: [2], data }), RangeError, "another name");
  assertThrows(write("\ud800", { shape: [2], data }), RangeError, "another name");
  assertThrows(
    write("x", { dtype: "I32", shape: [2], data }),
    RangeError,
    "expected an array that I32 can hold",
  );
  const halves = new Float16Array(2) as unknown as Float32Array;
  assertThrows(
    write("x", { shape: [2], data: halves }),
    RangeError,
    "that a file can hold, got Float16Array",
  );
});
