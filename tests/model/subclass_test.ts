import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type ForwardOptions,
  type ForwardOutputs,
  Mlp,
  Nepa,
  NepaClassifier,
  type NepaInit,
  type NepaOptions,
  pretrain,
  tf,
  useEngine,
} from "nepa";
import { withFolder } from "../support/folder.ts";
import { still, valuesOf } from "../support/objectives.ts";
import { noise } from "../support/tiny.ts";

await useEngine("wasm");

/** Another forward. */
class Doubled extends Nepa {
  override forward(images: tf.Tensor4D, options: ForwardOptions = {}): ForwardOutputs {
    const { embeddings, predictions } = super.forward(images, options);
    return { embeddings, predictions: tf.mul(predictions, 2) };
  }
}

/** With parameters of its own, made in the constructor. */
class Projected extends Nepa {
  readonly #head: Mlp;
  constructor(config: NepaOptions = {}, init: NepaInit = {}) {
    super(config, init);
    this.#head = new Mlp([this.config.hiddenSize, this.config.hiddenSize], {
      seed: init.seed ?? 0,
      name: "head",
    });
    for (const [name, x] of this.#head.parameters) this.parameters.set(name, x);
  }

  override forward(images: tf.Tensor4D, options: ForwardOptions = {}): ForwardOutputs {
    const { embeddings, predictions } = super.forward(images, options);
    return { embeddings, predictions: this.#head.apply(predictions) };
  }
}

/** With another constructor, which forgets its configuration. */
class Small extends Nepa {
  constructor() {
    super(still, { seed: 5 });
  }
}

/** With another constructor, which throws where it is given something else. */
class Named extends Nepa {
  constructor(names: { first: string[] }) {
    super(still, { seed: names.first.length });
  }
}

/** With a third argument, which a copy would not have. */
class Scaled extends Nepa {
  constructor(config: NepaOptions, init: NepaInit, readonly factor = 1) {
    super(config, init);
  }
}

/** The same, with a clone of its own. */
class Cloned extends Scaled {
  override clone(): this {
    const made = new Cloned(this.config, { seed: this.seed }, this.factor);
    tf.tidy(() => this.parameters.forEach((x, name) => made.parameters.get(name)!.assign(tf.add(x, 0))));
    return made as this;
  }
}

const images = tf.zeros<tf.Rank.R4>([2, 8, 8, 1]);
const predicted = (model: { forward(images: tf.Tensor4D): ForwardOutputs }) =>
  tf.tidy(() => [...model.forward(images).predictions.dataSync()]);

for (const Class of [Doubled, Projected]) {
  Deno.test(`${Class.name}, a subclass, stays one in clone, untrained, averages and a classifier`, async () => {
    const before = tf.memory().numTensors, model = new Class(still, { seed: 3 });
    const run = pretrain(model, noise, { steps: 3, batchSize: 8, emaDecay: 0, learningRate: 0.1 });
    await run.finish();
    const copy = model.clone(), fresh = model.untrained(9);
    for (const other of [copy, run.ema!]) {
      assert(other instanceof Class);
      assertEquals(valuesOf(other.parameters), valuesOf(model.parameters));
      assertEquals(predicted(other), predicted(model));
    }
    assert(fresh instanceof Class);
    assertEquals(
      [...fresh.parameters.keys()].sort(),
      [...model.parameters.keys()].filter((name) => !name.endsWith(".lambda1")).sort(),
    );
    const classifier = NepaClassifier.from(model, { classes: noise.classes }), twin = classifier.clone();
    for (const one of [classifier, twin]) {
      assert(one.backbone instanceof Class);
      const own = tf.tidy(() => [...model.forward(images, { causal: false }).predictions.dataSync()]);
      assertEquals(predicted(one), own);
      one.dispose();
    }
    for (const one of [model, copy, fresh, run.ema!]) one.dispose();
    assertEquals(tf.memory().numTensors, before);
  });
}

Deno.test("a subclass is loaded as such, with the parameters of its own; its parent refuses a folder that has more than its own", async () => {
  await withFolder(async (folder) => {
    const model = new Doubled(still, { seed: 3 }), projected = new Projected(still, { seed: 3 });
    await model.save(folder);
    const loaded = await Doubled.load(folder);
    assert(loaded instanceof Doubled);
    assertEquals(predicted(loaded), predicted(model));
    await projected.save(folder);
    await assertRejects(() => Nepa.load(folder), Error, "2 unknown:\n  head.0.bias\n  head.0.weight");
    const whole = await Projected.load(folder);
    assertEquals(valuesOf(whole.parameters), valuesOf(projected.parameters));
    assertEquals(predicted(whole), predicted(projected));
    await model.save(folder);
    await assertRejects(() => Projected.load(folder), Error, "2 missing:\n  head.0.weight\n  head.0.bias");
    for (const one of [model, projected, loaded, whole]) one.dispose();
  });
});

Deno.test("where a copy cannot be made, an error says what to override, and leaves no tensors", () => {
  const scaled = new Scaled(still, { seed: 1 }, 3), named = new Named({ first: ["a"] }), small = new Small();
  const changed = new Projected(still), cloned = new Cloned(still, { seed: 1 }, 3);
  changed.parameters.set("more", tf.tidy(() => tf.variable(tf.scalar(1))));
  const before = tf.memory().numTensors;
  assertThrows(
    () => scaled.clone(),
    TypeError,
    "Scaled: expected its constructor (config, init) to make the same",
  );
  assertThrows(() => scaled.untrained(1), TypeError, "override untrained");
  assertThrows(() => named.clone(), TypeError, "Named: expected a constructor (config, init), got ");
  assertThrows(() => named.untrained(0), TypeError, "override untrained");
  assertThrows(() => changed.clone(), TypeError, "override clone");
  assertThrows(
    () => pretrain(scaled, noise, { steps: 1, batchSize: 8, emaDecay: 0.9 }),
    TypeError,
    "override clone",
  );
  for (const model of [named, changed]) {
    assertThrows(() => NepaClassifier.from(model, { classes: 2 }), TypeError, "NepaClassifier.from");
  }
  const copies = [small.clone(), cloned.clone()];
  assertEquals([copies[0] instanceof Small, (copies[1] as Cloned).factor], [true, 3]);
  assertThrows(() => small.untrained(1), TypeError, "override untrained"); // it would be the same again
  for (const copy of copies) copy.dispose();
  assertEquals(tf.memory().numTensors, before);
});
