import { assert, assertEquals, assertRejects } from "@std/assert";
import { DataError, imageFolder } from "nepa";
import { fixtures } from "../support/images.ts";
import { withFolder } from "../support/folder.ts";

const picture = await Deno.readFile(`${fixtures}rgb.png`);

/** Writes files, pictures where nothing else is said, and gives what `work` says on stderr. */
async function withFiles(names: readonly string[], work: (folder: string) => Promise<void>): Promise<string> {
  const { error } = console, said: string[] = [];
  console.error = (line: string) => said.push(line);
  try {
    await withFolder(async (folder) => {
      for (const name of names) {
        await Deno.mkdir(`${folder}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
        if (!name.endsWith("/")) await Deno.writeFile(`${folder}/${name}`, picture);
      }
      await work(folder);
    });
  } finally {
    console.error = error;
  }
  return said.join("\n");
}

Deno.test("a folder says what it leaves out and why, and has no class without images", async () => {
  const files = ["a/1.png", "a/2.png", "a/x.bmp", "a/deep/y.TIF", "b/1.png", "b/z.gif", "b/notes.txt"];
  const others = ["loose.png", "loose.jpg", "readme", "empty/", "__MACOSX/a/._1.png", "c/only.bmp"];
  const said = await withFiles([...files, ...others], async (folder) => {
    const set = await imageFolder(folder, { size: 8 });
    assertEquals([set.classes, [...set.labels]], [["a", "b"], [0, 0, 1]]);
    const left = set.skipped.map(({ file }) => file.slice(folder.length + 1)).sort();
    assertEquals(left, [
      ...["__MACOSX", "a/deep/y.TIF", "a/x.bmp", "b/notes.txt", "b/z.gif", "c", "c/only.bmp", "empty"],
      ...["loose.jpg", "loose.png", "readme"],
    ]);
    const text = String(set);
    assert(text.includes("2 classes, 11 left out\n(a 2, b 1)\nleft out: "), text);
    for (
      const words of [
        "2 × expected a JPEG, PNG or WebP file, got .bmp",
        "1 × expected a JPEG, PNG or WebP file, got .TIF",
        "2 × expected in the folder of a class, got beside those",
        "3 × expected images of a class in this folder, got none",
      ]
    ) assert(set.skipped.length > 0 && (text.includes(words) || text.includes("reasons more")), text);
    assertEquals((await set.balanced(1)).length, 2);
    assert(!String(set.subset([0])).includes("left out"));
    const all = await imageFolder(folder, { size: 8, emptyClasses: true });
    assertEquals([all.classes, [...all.labels]], [["__MACOSX", "a", "b", "c", "empty"], [1, 1, 2]]);
  });
  assert(said.includes("left out: ") && said.includes("2 × expected in the folder of a class"), said);
  assert(!said.includes(".txt"), said);
});

Deno.test("images without classes beside an empty folder are read; a folder of other kinds says which it has", async () => {
  await withFiles(["1.png", "2.png", "empty/"], async (folder) => {
    const { length, classes, skipped } = await imageFolder(folder, { size: 8 });
    assertEquals([length, classes, skipped.length], [2, [folder.split("/").at(-1)!], 1]);
  });
  await withFiles(["a/1.bmp", "a/2.bmp", "b/3.gif"], async (folder) => {
    const error = await assertRejects(() => imageFolder(folder), DataError);
    assert(
      error.message.includes("found none") && error.message.includes("2 × expected a JPEG, PNG or WebP"),
      error.message,
    );
  });
  const said = await withFiles(["a/1.png", "a/notes.txt", "b/1.png"], async (folder) => {
    assertEquals((await imageFolder(folder)).skipped.length, 1);
  });
  assertEquals(said, "");
});

Deno.test("a class whose images are all broken is none where those are left out, unless asked for", async () => {
  await withFiles(["a/1.png", "b/1.png", "b/2.png", "c/1.png"], async (folder) => {
    for (const name of ["b/1.png", "b/2.png"]) {
      await Deno.writeFile(`${folder}/${name}`, picture.subarray(0, 99));
    }
    const of = async (emptyClasses: boolean) => {
      const { classes, labels, skipped } = await imageFolder(folder, {
        size: 8,
        broken: "skip",
        emptyClasses,
      });
      return [classes, [...labels], skipped.length];
    };
    assertEquals(await of(false), [["a", "c"], [0, 1], 2]);
    assertEquals(await of(true), [["a", "b", "c"], [0, 2], 2]);
  });
});
