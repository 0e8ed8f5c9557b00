/**
 * What of this process's memory can be given back: on Linux, the pages of TensorFlow's code that only its start reads, and
 * what the C library keeps of memory that was freed.
 *
 * @module
 */
import v8 from "node:v8";
import vm from "node:vm";
import { bytes } from "./libc.ts";
import { isElf, viewAt } from "./sums.ts";

const POINTER = "pointer", I = "i32", SIZE = "usize";

/** Since glibc 2.34 all of it is in one library; with an older one nothing is given back. */
const LIBC = {
  dlopen: { parameters: ["buffer", I], result: POINTER },
  dlsym: { parameters: [POINTER, "buffer"], result: POINTER },
  dladdr: { parameters: [POINTER, "buffer"], result: I },
  getpagesize: { parameters: [], result: I },
  madvise: { parameters: [POINTER, SIZE, I], result: I },
  malloc_trim: { parameters: [SIZE], result: I },
} as const;

/** Of `dlopen`: only what is open already; of `madvise`: read from the file again when it is next needed. */
const LAZY_IF_OPEN = 5, DONT_NEED = 4;

/** Kinds of parts of an ELF file, its flag of a part that can be written, and what says that code is changed as it is loaded. */
const LOAD = 1, DYNAMIC = 2, WRITABLE = 2, TEXTREL = 22n, FLAGS = 30n, FLAG_TEXTREL = 4n;

let libc: Deno.DynamicLibrary<typeof LIBC>["symbols"] | null | undefined;

function openLibc() {
  if (libc === undefined) {
    try {
      libc = Deno.build.os === "linux" ? Deno.dlopen("libc.so.6", LIBC).symbols : null;
    } catch {
      libc = null;
    }
  }
  return libc;
}

/** Where parts of a library of 64 bits lie, from its beginning in memory, that are never written: first byte and bytes. */
export function unwrittenParts(path: string): [number, number][] {
  using file = Deno.openSync(path);
  const head = viewAt(file, 0, 64),
    number = (view: DataView, at: number) => Number(view.getBigUint64(at, true));
  if (!isElf(head)) return [];
  const size = head.getUint16(54, true), count = head.getUint16(56, true);
  const table = viewAt(file, number(head, 32), size * count);
  const parts = Array.from({ length: count }, (_, i) => {
    const at = i * size, [type, flags] = [0, 4].map((offset) => table.getUint32(at + offset, true));
    const [offset, address, bytes] = [8, 16, 40].map((place) => number(table, at + place));
    return { type, flags: flags!, offset: offset!, address: address!, bytes: bytes! };
  });
  const dynamic = parts.find(({ type }) => type === DYNAMIC);
  if (!dynamic) return [];
  const entries = viewAt(file, dynamic.offset, dynamic.bytes);
  for (let at = 0; at < dynamic.bytes; at += 16) {
    const tag = entries.getBigUint64(at, true), value = entries.getBigUint64(at + 8, true);
    if (tag === TEXTREL || tag === FLAGS && value & FLAG_TEXTREL) return [];
  }
  return parts.filter(({ type, flags }) => type === LOAD && !(flags & WRITABLE))
    .map(({ address, bytes }) => [address, bytes]);
}

/**
 * Lets go of the pages of an open library that nobody can have changed: its start has run through half of them and hardly
 * reads them again. Those that are needed come back from the file.
 *
 * @param path Of a library that is open.
 * @param symbol One of its functions.
 */
export function releasePages(path: string, symbol: string): void {
  const c = openLibc();
  if (!c) return;
  const library = c.dlopen(bytes(path), LAZY_IF_OPEN), place = library && c.dlsym(library, bytes(symbol));
  const found = new BigUint64Array(4);
  if (!place || !c.dladdr(place, new Uint8Array(found.buffer))) return;
  const base = found[1]!, page = BigInt(c.getpagesize());
  for (const [address, length] of unwrittenParts(path)) {
    const from = (base + BigInt(address) + page - 1n) / page * page;
    const to = (base + BigInt(address + length)) / page * page;
    if (to > from) c.madvise(Deno.UnsafePointer.create(from), to - from, DONT_NEED);
  }
}

let collect: (() => void) | undefined;

/**
 * Gives the system back what was read or recorded once and is garbage now. V8 would wait for its heap to grow, and the C
 * library keeps what it has.
 */
export function releaseGarbage(): void {
  try {
    if (!collect) {
      v8.setFlagsFromString("--expose-gc");
      collect = vm.runInNewContext("gc") as () => void;
    }
    collect();
  } catch {
    // A runtime that does not let itself be asked.
  }
  openLibc()?.malloc_trim(0n);
}
