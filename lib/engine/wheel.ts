/** Unpacking Python wheels, which are zip archives. @module */
import { createHash } from "node:crypto";
import { basename } from "node:path";

/** The hexadecimal SHA-256 of bytes. */
export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/**
 * Unpacks some files of a zip archive into a folder, flat.
 *
 * @param wanted Matched against each whole name in the archive.
 * @throws {Error} If it is not a zip archive.
 */
export async function unpack(archive: Uint8Array, folder: string, wanted: RegExp): Promise<void> {
  const { configure, Uint8ArrayReader, ZipReader } = await import("@zip.js/zip.js");
  configure({ useWebWorkers: false });
  const reader = new ZipReader(new Uint8ArrayReader(archive), { checkSignature: true });
  for (const entry of await reader.getEntries()) {
    const { filename: name } = entry;
    if (entry.directory || !wanted.test(name)) continue;
    const file = await Deno.create(`${folder}/${basename(name)}`);
    await entry.getData(file.writable); // which closes the file
  }
  await reader.close();
}
