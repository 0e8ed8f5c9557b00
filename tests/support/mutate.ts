/** Safetensors files broken at random, and what has to hold of each: shared by the tests and `bench/fuzz/`. */
import { assert, assertEquals } from "@std/assert";
import { Random } from "../../lib/base/random.ts";
import { readSafetensors, SafetensorsError, writeSafetensors } from "../../lib/files/safetensors.ts";

/** A file with this header and these bytes. */
export function file(header: unknown, body: ArrayLike<number> = []): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + body.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(body, 8 + text.length);
  return bytes;
}

const every = new URL("../fixtures/safetensors/every.safetensors", import.meta.url);

/** Whole files to start from. */
export const wholeFiles: readonly Uint8Array[] = [
  Deno.readFileSync(every),
  file("{}  "),
  file({ test: { dtype: "I32", shape: [2, 2], data_offsets: [0, 16] } }, Array(16).fill(1)),
  writeSafetensors(
    new Map([
      ["a", { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }],
      ["b", { shape: [], data: Int32Array.of(7) }],
      ["none", { shape: [0, 5], data: new Uint8Array(0) }],
    ]),
    { format: "pt", note: "x" },
  ),
];

const pieces = [
  "0",
  "-1",
  "1.0",
  "1e3",
  "4294967296",
  "9007199254740992",
  "18446744073709551614",
  "99999999999999999999999",
  "null",
  "true",
  "[]",
  "{}",
  '"F32"',
  '"F99"',
  '"__metadata__":',
  '"__proto__":',
  '"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},',
  '"\\ud800"',
  "[".repeat(500),
  "\0",
  " ",
  ",",
  "}",
  '"',
  "\\",
];

const splice = (bytes: Uint8Array, from: number, to: number, piece: Uint8Array): Uint8Array<ArrayBuffer> =>
  new Uint8Array([...bytes.subarray(0, from), ...piece, ...bytes.subarray(to)]);

/** Another token where one of its kind may stand: the JSON stays JSON. */
function likeness(token: string, tokens: readonly string[], random: Random): string {
  const kind = token[0]! === '"' ? /^"/ : /^\d/,
    same = [...tokens, ...pieces].filter((other) => kind.test(other) && !other.includes(":"));
  if (kind.test("0") && random.uniform() < 0.5) {
    return String(Math.max(0, Number(token) + random.integer(9) - 4));
  }
  return random.uniform() < 0.1 ? "[]" : same[random.integer(same.length)]!;
}

/** Changes the header's tokens and mends its length, so that its JSON is looked at. */
function changeHeader(bytes: Uint8Array, random: Random): Uint8Array<ArrayBuffer> {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + length)), body = bytes.subarray(8 + length);
  const tokens: string[] = text.match(/"(?:[^"\\]|\\.)*"|\d+|\s+|./gs) ?? [];
  const values = tokens.flatMap((token, i) => /^["\d]/.test(token) ? [i] : []);
  if (values.length > 0 && random.uniform() < 0.7) {
    const at = values[random.integer(values.length)]!;
    return file(tokens.with(at, likeness(tokens[at]!, tokens, random)).join(""), body);
  }
  const at = random.integer(tokens.length + 1), from = random.integer(tokens.length + 1);
  const piece = random.uniform() < 0.5
    ? pieces[random.integer(pieces.length)]!
    : tokens.slice(from, from + random.integer(30)).join("");
  return file([...tokens.slice(0, at), piece, ...tokens.slice(at + random.integer(3))].join(""), body);
}

/** One small change. */
function change(bytes: Uint8Array, random: Random): Uint8Array<ArrayBuffer> {
  const at = random.integer(bytes.length), to = at + random.integer(9), copy = new Uint8Array(bytes);
  switch (random.integer(6)) {
    case 0:
      copy[at]! ^= 1 << random.integer(8);
      return copy;
    case 1:
      copy[at] = [0, 0x20, 0x22, 0x30, 0x3a, 0x7b, 0x7f, 0xff][random.integer(8)]!;
      return copy;
    case 2: // the header's length
      new DataView(copy.buffer).setUint8(random.integer(8), random.next());
      return copy;
    case 3:
      return splice(bytes, at, to, new Uint8Array(0));
    case 4:
      return splice(bytes, at, at, Uint8Array.from({ length: random.integer(9) }, () => random.next()));
    default:
      return copy.slice(0, at);
  }
}

/** File `index` of the broken ones: most by a change to the header's tokens, some by changes to bytes. */
export function mutant(index: number, seed = 0): Uint8Array {
  const random = new Random(seed, "safetensors", index);
  let bytes = new Uint8Array(wholeFiles[random.integer(wholeFiles.length)]!);
  for (let changes = 1 + random.integer(2); changes > 0 && bytes.length >= 8; changes--) {
    const sound = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true)) <= bytes.length;
    bytes = sound && random.uniform() < 0.7 ? changeHeader(bytes, random) : change(bytes, random);
    if (bytes.length === 0) break;
  }
  return bytes;
}

/**
 * Reads a broken file, and checks that it is either refused by name, or whole: its tensors are its bytes, each once,
 * and nothing around them.
 *
 * @returns Whether it was whole.
 */
export function checkRead(bytes: Uint8Array): boolean {
  const around = new Uint8Array(bytes.length + 128).fill(0x5a),
    inside = around.subarray(64, 64 + bytes.length);
  inside.set(bytes);
  try {
    const { tensors } = readSafetensors(inside);
    const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    const body = bytes.subarray(8 + length), again = readSafetensors(writeSafetensors(tensors));
    assertEquals(again.tensors.size, tensors.size);
    let at = 0;
    for (const [name, { dtype, shape, data }] of tensors) {
      if (dtype === "F16" || dtype === "BF16") { // widened: two bytes a number in the file
        at += 2 * data.length;
        continue;
      }
      const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      assertEquals(raw, body.subarray(at, at + raw.length), name);
      assertEquals(again.tensors.get(name)!.shape, shape, name);
      at += raw.length;
    }
    assertEquals(at, body.length);
    return true;
  } catch (error) {
    assert(error instanceof SafetensorsError, `expected a SafetensorsError, got ${error}`);
    return false;
  }
}
