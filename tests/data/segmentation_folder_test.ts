import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { encode } from "fast-png";
import {
  compose,
  DataError,
  fingerprintOf,
  horizontalFlip,
  Random,
  randomCrop,
  randomScale,
  segmentationFolder,
  type SegmentationFolderOptions,
  trainingBatches,
  useEngine,
} from "nepa";
import { pngSamples } from "../../lib/display/png.ts";
import { withFolder } from "../support/folder.ts";

await useEngine("cpu");
const root = fileURLToPath(new URL("../fixtures/segmentation", import.meta.url));
const kinds = new URL("../fixtures/masks/", import.meta.url);
const classes = ["sky", "land", "sea"];

function png(
  data: ArrayLike<number>,
  width: number,
  options: { channels?: 1 | 2 | 3 | 4; depth?: 8 | 16 } = {},
): Uint8Array {
  const { channels = 1, depth = 8 } = options, Type = depth === 16 ? Uint16Array : Uint8Array;
  return encode({ data: Type.from(data), width, height: data.length / width / channels, channels, depth });
}

type Files = Record<string, Uint8Array | string>;

async function write(folder: string, files: Files): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await Deno.mkdir(`${folder}/${path.replace(/\/[^/]*$/, "")}`, { recursive: true });
    if (typeof content === "string") await Deno.writeTextFile(`${folder}/${path}`, content);
    else await Deno.writeFile(`${folder}/${path}`, content);
  }
}

const photo = png(Array.from({ length: 48 }, (_, i) => 5 * i), 4, { channels: 3 }); // 4 x 4

Deno.test("images and masks are paired by name; originals have their own sizes, views and batches one", async () => {
  const set = await segmentationFolder(root, { classes, size: 16 });
  assertEquals([set.length, set.height, set.channels, set.masked], [4, 16, 3, true]);
  const sizes = [[24, 32], [33, 18], [20, 20], [16, 40]], names = ["ab0", "ab2", "cd1", "cd3"];
  for (let i = 0; i < 4; i++) {
    const { data, mask, height, width } = await set.original(i);
    assertEquals([height, width, data.length], [...sizes[i]!, height * width * 3]);
    assertEquals(mask, pngSamples(await Deno.readFile(`${root}/masks/${names[i]}.png`)));
    assertEquals((await set.get(i)).mask.length, 256);
  }
  const [batch] = await Array.fromAsync(set.subset([3, 0]).batches({ size: 2, shuffle: false }));
  assertEquals(batch!.masks.slice(256), (await set.get(0)).mask);
  assertEquals([...batch!.labels], [-1, -1]);
  const [one, two] = set.split([0.5, 0.5]);
  assertEquals([one.length, two.length], [2, 2]);
});

Deno.test("transforms work on the whole original, and the mask stays on its image", async () => {
  await withFolder(async (folder) => {
    const mask = Uint8Array.from({ length: 30 * 50 }, (_, i) => (i * 31 >> 3) % 3);
    await write(folder, {
      "images/a.png": png(mask.map((k) => 100 * k), 50),
      "masks/a.png": png(mask, 50),
    });
    const set = await segmentationFolder(folder, { classes, channels: 1, size: 8 });
    const transform = compose(
      randomScale({ size: 30, scale: [1, 1] }),
      randomCrop({ size: 20, most: 1 }),
      horizontalFlip(),
    );
    const change = { transform, size: { height: 20, width: 20 }, random: (i: number) => new Random(i) };
    for await (const { images, masks } of set.subset([0, 0, 0]).batches({ size: 3, change })) {
      assertEquals(images, masks.map((k) => 100 * k));
      assertNotEquals(images.slice(0, 400), images.slice(400, 800));
    }
    const batches = trainingBatches(set, { batchSize: 1, augment: transform, size: 20 });
    const { masks } = await batches.next();
    assertEquals(masks!.shape, [1, 20, 20]);
    batches.dispose();
  });
});

Deno.test("masks of every depth are read; what values mean is told by ignore, zeroIsOther and values", async () => {
  await withFolder(async (folder) => {
    for (const name of ["grey1", "palette2", "grey4", "palette8", "grey16"]) {
      const file = await Deno.readFile(new URL(`${name}.png`, kinds)), samples = pngSamples(file);
      await write(folder, { "images/a.png": png(new Uint8Array(117), 13), "masks/a.png": file });
      const all = [...new Set(samples)].sort((a, b) => a - b), values = all.slice(0, 250);
      const classes = values.map(String), ignore = all.length > 250 ? all[250]! : null;
      const set = await segmentationFolder(folder, { classes, values, ignore });
      assertEquals(
        [...(await set.original(0)).mask],
        [...samples].map((x) => values.includes(x) ? values.indexOf(x) : 255),
      );
    }
    const read = async (data: number[], options: SegmentationFolderOptions) => {
      await write(folder, {
        "images/a.png": photo,
        "masks/a.png": png([...data, ...new Array(12).fill(data[0])], 4),
      });
      const { mask } = await (await segmentationFolder(folder, options)).original(0);
      return [...mask.subarray(0, 4)];
    };
    assertEquals(await read([1, 0, 2, 255], { classes }), [1, 0, 2, 255]);
    assertEquals(await read([1, 0, 3, 255], { classes, zeroIsOther: true }), [0, 255, 2, 255]);
    assertEquals(await read([1, 0, 2, 9], { classes, ignore: 9 }), [1, 0, 2, 255]);
    assertEquals(await read([0, 255, 255, 0], { classes: ["no", "yes"], values: [0, 255] }), [0, 1, 1, 0]);
  });
});

Deno.test("ADE20K's and Pascal VOC's layouts are known by name", async () => {
  await withFolder(async (folder) => {
    const table = [
      "Idx\tRatio\tTrain\tVal\tName",
      ...Array.from({ length: 150 }, (_, k) => `${k + 1}\t0.1\t9\t1\tname ${k}, other`),
    ];
    await write(folder, {
      "ade/images/training/ADE_train_1.jpg": await Deno.readFile(`${root}/images/ab0.jpg`),
      "ade/annotations/training/ADE_train_1.png": png(Array.from({ length: 24 * 32 }, (_, i) => i % 151), 32),
      "ade/objectInfo150.txt": table.join("\n"),
      "voc/JPEGImages/1.jpg": await Deno.readFile(`${root}/images/ab0.jpg`),
      "voc/JPEGImages/2.jpg": await Deno.readFile(`${root}/images/ab0.jpg`),
      "voc/SegmentationClass/2.png": await Deno.readFile(`${root}/masks/ab0.png`),
      "voc/ImageSets/Segmentation/train.txt": "2\n",
      "voc/ImageSets/Segmentation/val.txt": "2\r\n3\r\n",
    });
    const ade = await segmentationFolder(`${folder}/ade`, { layout: "ade20k", part: "training" });
    const { mask } = await ade.original(0);
    assertEquals([ade.classes.length, ade.classes[149], ...mask.subarray(0, 3)], [
      150,
      "name 149",
      255,
      0,
      1,
    ]);
    await Deno.remove(`${folder}/ade/objectInfo150.txt`);
    assertEquals(
      (await segmentationFolder(`${folder}/ade`, { layout: "ade20k", part: "training" })).classes[149],
      "150",
    );
    const voc = await segmentationFolder(`${folder}/voc`, { layout: "voc", part: "train" });
    assertEquals([voc.length, voc.classes.length, voc.classes[15]], [1, 21, "person"]);
    assertEquals((await voc.original(0)).mask, pngSamples(await Deno.readFile(`${root}/masks/ab0.png`)));
    await assertRejects(
      () => segmentationFolder(`${folder}/voc`, { layout: "voc", part: "val" }),
      DataError,
      "val.txt: expected names of JPEGImages and SegmentationClass, got 3, which is in neither",
    );
    await assertRejects(
      () => segmentationFolder(folder, { layout: "voc" }),
      TypeError,
      'expected the part of "voc", such as "train"',
    );
  });
});

const good: Files = { "images/a.png": photo, "masks/a.png": png(new Uint8Array(16), 4) };
const wrong: Record<string, [files: Files, message: string]> = {
  "a mask without its image": [
    { "masks/b.png": good["masks/a.png"]! },
    "masks/b.png: expected an image of this name in images, got none",
  ],
  "an image without its mask": [
    { "images/b.png": photo },
    "images/b.png: expected a PNG mask of this name in masks, got none",
  ],
  "two images of one name": [
    { "images/a.jpg": photo },
    "images/a.png: expected one file of this name, got two",
  ],
  "a mask of 0 and 255 alone": [
    { "masks/a.png": png([0, 255, ...new Uint8Array(14)], 4) },
    "masks/a.png: expected indices of classes beside 255, which is none, got 0 and 255 alone; for masks of black and white give two `classes` and values: [0, 255]",
  ],
  "colours": [
    { "masks/a.png": photo },
    "masks/a.png: expected an index for each pixel, got RGB colours; write the class numbers",
  ],
  "grey and alpha": [
    { "masks/a.png": png(new Uint8Array(32), 4, { channels: 2 }) },
    "got grey and alpha colours",
  ],
  "a class that there is not": [
    { "masks/a.png": png([7, ...new Uint8Array(15)], 4) },
    "masks/a.png: expected values of the 3 classes, 0, 1, 2, got 7; name its class, or ignore: 7",
  ],
  "another size": [
    { "masks/a.png": png(new Uint8Array(20), 4) },
    "masks/a.png: expected 4x4, as its image has, got 5x4",
  ],
  "a mask that is no PNG": [
    { "masks/a.png": new Uint8Array(50) },
    "masks/a.png: expected a PNG file, got another or a broken one",
  ],
  "a mask that ends early": [
    { "masks/a.png": (good["masks/a.png"] as Uint8Array).slice(0, 45) },
    "masks/a.png: expected a whole PNG mask, but",
  ],
  "an image that is none": [
    { "images/a.png": new Uint8Array(50) },
    "images/a.png: expected a whole JPEG, PNG or WebP image, but",
  ],
};

for (const [what, [files, message]] of Object.entries(wrong)) {
  Deno.test(`refused at opening with the file, or left out: ${what}`, async () => {
    await withFolder(async (folder) => {
      await write(folder, {
        ...good,
        ...files,
        "images/ok.png": photo,
        "masks/ok.png": good["masks/a.png"]!,
      });
      await assertRejects(() => segmentationFolder(folder, { classes }), DataError, message);
      const set = await segmentationFolder(folder, { classes, broken: "skip" });
      assert(set.length >= 1 && set.skipped.some((error) => error.message.includes(message)));
      assertEquals((await set.get(set.length - 1)).mask.length, 16);
      assert(String(set).includes("left out"));
    });
  });
}

Deno.test("a JPEG as a mask is refused, and so are folders, classes and options that cannot be", async () => {
  await withFolder(async (folder) => {
    const jpeg = await Deno.readFile(`${root}/images/ab0.jpg`),
      open = (options: object) => segmentationFolder(folder, options);
    await write(folder, { "images/a.jpg": jpeg, "masks/a.jpg": jpeg });
    await assertRejects(
      () => open({ classes }),
      DataError,
      "masks/a.jpg: expected a PNG file, which keeps numbers, got .jpg",
    );
    await assertRejects(() => open({}), TypeError, "expected classes, their names, got none");
    await assertRejects(
      () => open({ classes, masks: "labels" }),
      DataError,
      "labels: expected it to be there",
    );
    await assertRejects(
      () => open({ classes: ["a", "a"] }),
      RangeError,
      "classes: expected 1 to 254 names, all different",
    );
    await assertRejects(
      () => open({ classes, values: [1] }),
      RangeError,
      "values: expected one for each of 3 classes, got 1",
    );
    await assertRejects(() => open({ classes, layuot: "voc" }), TypeError, "did you mean layout");
    await assertRejects(
      () => segmentationFolder("nowhere", { classes }),
      DataError,
      "nowhere: expected it to be there",
    );
  });
});

Deno.test("of many masks 50 are read whole at opening, of `all` each; the others at their first read", async () => {
  await withFolder(async (folder) => {
    const files: Files = {};
    for (let i = 0; i < 120; i++) {
      const name = String(i).padStart(3, "0"), bad = i === 1 ? 9 : 0;
      Object.assign(files, {
        [`images/${name}.png`]: photo,
        [`masks/${name}.png`]: png([bad, ...new Uint8Array(15)], 4),
      });
    }
    await write(folder, files);
    const set = await segmentationFolder(folder, { classes });
    assertEquals((await set.get(0)).mask.length, 16);
    await assertRejects(
      () => set.get(1),
      DataError,
      "001.png: expected values of the 3 classes, 0, 1, 2, got 9",
    );
    await assertRejects(() => segmentationFolder(folder, { classes, validate: "all" }), DataError, "001.png");
    await write(folder, { "masks/060.png": png([5, ...new Uint8Array(15)], 4) });
    await assertRejects(() => segmentationFolder(folder, { classes }), DataError, "060.png");
  });
});

Deno.test("a fingerprint is of images, masks and what their values mean", async () => {
  await withFolder(async (folder) => {
    await write(folder, good);
    const print = async (options: object = {}) =>
      await fingerprintOf(await segmentationFolder(folder, { classes, ...options }));
    const first = await print();
    assertEquals(await print(), first);
    const prints = new Set([first, await print({ ignore: 7 }), await print({ size: 2 })]);
    await write(folder, { "masks/a.png": png([1, ...new Uint8Array(15)], 4) });
    assertEquals(prints.add(await print()).size, 4);
  });
});
