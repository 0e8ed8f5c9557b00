/** Reading Python wheels: zip archives, of which a few files are unpacked as a stream. @module */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";

interface Entry {
  name: string;
  deflated: boolean;
  /** Of the file's header, from the start of the archive. */
  offset: number;
  bytes: number;
}

/** The hexadecimal SHA-256 of a file, read as a stream. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return hash.digest("hex");
}

/** Reads `length` bytes of an archive. */
async function bytesAt(path: string, position: number, length: number): Promise<DataView> {
  const file = await open(path);
  try {
    const buffer = new Uint8Array(length);
    const { bytesRead } = await file.read(buffer, 0, length, position);
    return new DataView(buffer.buffer, 0, bytesRead);
  } finally {
    await file.close();
  }
}

/** The archive's table of contents. */
async function contents(path: string): Promise<Entry[]> {
  const { size } = await Deno.stat(path), tailLength = Math.min(size, 65557); // 22 bytes, and a comment of up to 65535
  const tail = await bytesAt(path, size - tailLength, tailLength);
  let end = tailLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error(`${path}: expected a zip archive`);
  const table = await bytesAt(path, tail.getUint32(end + 16, true), tail.getUint32(end + 12, true));
  const entries: Entry[] = [], decoder = new TextDecoder();
  for (let at = 0; at < table.byteLength;) {
    const nameLength = table.getUint16(at + 28, true);
    entries.push({
      name: decoder.decode(new Uint8Array(table.buffer, at + 46, nameLength)),
      deflated: table.getUint16(at + 10, true) === 8,
      offset: table.getUint32(at + 42, true),
      bytes: table.getUint32(at + 20, true),
    });
    at += 46 + nameLength + table.getUint16(at + 30, true) + table.getUint16(at + 32, true);
  }
  return entries;
}

/**
 * Unpacks some files of a zip archive (below 4 GB) into a folder, flat.
 *
 * @param wanted Matched against each whole name in the archive.
 * @throws {Error} If it is not a zip archive.
 */
export async function unpack(archive: string, folder: string, wanted: RegExp): Promise<void> {
  for (const { name, deflated, offset, bytes } of await contents(archive)) {
    if (!wanted.test(name)) continue;
    const header = await bytesAt(archive, offset, 30);
    const start = offset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
    const packed = createReadStream(archive, { start, end: start + bytes - 1, highWaterMark: 1 << 20 });
    const file = createWriteStream(`${folder}/${name.slice(name.lastIndexOf("/") + 1)}`);
    if (deflated) await pipeline(packed, createInflateRaw({ chunkSize: 1 << 20 }), file);
    else await pipeline(packed, file);
  }
}
