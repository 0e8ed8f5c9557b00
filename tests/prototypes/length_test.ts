import { assert } from "@std/assert";

const imports = /^import [\s\S]*?;\n/gm, folder = new URL("./", import.meta.url);

Deno.test("a prototype has at most 40 lines but for its imports, which are of the package alone", () => {
  const files = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) =>
    !name.endsWith("_test.ts")
  );
  assert(files.length >= 14, `${files.length} prototypes`);
  for (const file of files) {
    const text = Deno.readTextFileSync(new URL(file, folder)),
      lines = text.replaceAll(imports, "").split("\n").length - 1;
    assert(lines <= 40, `${file}: ${lines} lines`);
    for (const [line] of text.matchAll(imports)) {
      assert(/ from "nepa(\/\w+)?";\n$/.test(line), `${file}: ${line}`);
    }
  }
});
