/** Checksums beside files: what was cut off or changed on the disk is noticed before it is used. @module */
import { crc32 } from "node:zlib";

/** A file's checksum and length. */
function sumOf(path: string): string {
  using file = Deno.openSync(path);
  const chunk = new Uint8Array(1 << 20);
  let sum = 0, bytes = 0;
  for (let read = file.readSync(chunk); read !== null; read = file.readSync(chunk)) {
    sum = crc32(chunk.subarray(0, read), sum);
    bytes += read;
  }
  return `crc32 ${sum.toString(16).padStart(8, "0")}, ${bytes} bytes\n`;
}

/** Keeps the checksum of a file that is whole. */
export function seal(path: string): void {
  Deno.writeTextFileSync(`${path}.sum`, sumOf(path));
}

/** When a file was sealed; NaN if it never was. */
export function sealedAt(path: string): number {
  try {
    return Deno.statSync(`${path}.sum`).mtime!.getTime();
  } catch {
    return NaN;
  }
}

/**
 * Whether a file is as it was when it was sealed; undefined if it never was.
 *
 * @param quick Look only at the length where nothing was changed since.
 */
export function isAsSealed(path: string, quick = false): boolean | undefined {
  if (Number.isNaN(sealedAt(path))) return undefined;
  const { size, mtime, ctime } = Deno.statSync(path), then = Deno.statSync(`${path}.sum`);
  const sum = Deno.readTextFileSync(`${path}.sum`);
  // Clocks of file systems tick every few milliseconds: what has the seal's own time may have come after it.
  const unchanged = mtime! < then.mtime! && ctime! < then.ctime!;
  return quick && unchanged ? sum.endsWith(`, ${size} bytes\n`) : sum === sumOf(path);
}

/** Bytes of a file; zeros beyond its end. */
export function viewAt(file: Deno.FsFile, place: number, bytes: number): DataView {
  const view = new DataView(new ArrayBuffer(bytes));
  file.seekSync(place, Deno.SeekMode.Start);
  file.readSync(new Uint8Array(view.buffer));
  return view;
}

/** Whether a file is one of a library or program as Linux has them. */
export const isElf = (head: DataView): boolean => head.getUint32(0) === 0x7f454c46;

/** How long a library has to be by its header: an ELF file of 64 bits or a PE file; 0 of another. */
function lengthBy(file: Deno.FsFile, size: number): number {
  const at = (place: number, bytes: number) => viewAt(file, place + bytes <= size ? place : size, bytes);
  const head = at(0, 64), begin = head.getUint32(60, true);
  // ELF ends with the table of its sections.
  if (isElf(head)) {
    return Number(head.getBigUint64(40, true)) + head.getUint16(58, true) * head.getUint16(60, true);
  }
  if (head.getUint16(0) !== 0x4d5a) return 0;
  if (begin + 24 > size) return begin + 24;
  const coff = at(begin, 24),
    sections = coff.getUint16(6, true),
    table = begin + 24 + coff.getUint16(20, true);
  if (coff.getUint32(0) !== 0x50450000) return 0;
  const ends = Array.from({ length: sections }, (_, i) => {
    const section = at(table + 40 * i, 40);
    return section.getUint32(16, true) + section.getUint32(20, true);
  });
  return Math.max(table + 40 * sections, ...ends);
}

/** What is wrong with a library, whose code would end the process: by its checksum, or else by its own header. */
export function damageOf(path: string): string | undefined {
  const { size } = Deno.statSync(path), sealed = isAsSealed(path, true);
  if (sealed !== undefined) return sealed ? undefined : "it is not what was unpacked";
  using file = Deno.openSync(path);
  const end = lengthBy(file, size);
  return end > size ? `expected ${end} bytes, got ${size}` : undefined;
}
