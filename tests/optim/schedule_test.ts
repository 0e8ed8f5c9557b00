import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { layerCosine, layersAbove, warmupCosine } from "../../lib/optim/schedule.ts";

const folder = new URL("../fixtures/schedules/", import.meta.url);

Deno.test("warm-up and cosine agree with the official table at every listed update", async () => {
  const { schedules } = JSON.parse(await Deno.readTextFile(new URL("pretrain.json", folder))) as {
    schedules: {
      base_lr: number;
      total_steps: number;
      warmup_ratio: number;
      warmup_steps: number;
      lr: Record<string, number>;
    }[];
  };
  for (const { base_lr, total_steps, warmup_ratio, warmup_steps, lr } of schedules) {
    assertEquals(Math.ceil(total_steps * warmup_ratio), warmup_steps);
    const rate = warmupCosine({ peak: base_lr, steps: total_steps, warmupSteps: warmup_steps });
    for (const [k, expected] of Object.entries(lr)) {
      assertAlmostEquals(rate(Number(k)), expected, expected * 1e-12);
    }
  }
});

Deno.test("a schedule stays at zero after its end and may be all warm-up", () => {
  assertEquals(warmupCosine({ peak: 1, steps: 4, warmupSteps: 1 })(9), 0);
  const rising = warmupCosine({ peak: 1, steps: 4, warmupSteps: 4 });
  assertEquals([0, 1, 3, 4].map(rising), [0, 0.25, 0.75, 1]);
});

Deno.test("lengths that cannot be are refused", () => {
  assertThrows(
    () => warmupCosine({ peak: 1, steps: 4, warmupSteps: 5 }),
    RangeError,
    "expected a number from 0 to 4, got 5",
  );
  assertThrows(() => warmupCosine({ peak: NaN, steps: 4, warmupSteps: 0 }), RangeError, "peak");
  assertThrows(() => warmupCosine({ peak: 1, steps: 0, warmupSteps: 0 }), RangeError, "steps");
});

interface Finetune {
  kind: "llrd_cosine" | "llrd_cosine_warmup";
  learning_rate: number;
  llrd: number;
  llrd_end: number | null;
  layers: number;
  total_steps: number;
  warmup_steps: number;
  groups: { lr_base: number; llrd_scale: number; lr: Record<string, number>; params: string[] }[];
}

Deno.test("layer-wise decay gives each parameter the official rate at every listed update", async () => {
  const { schedules } = JSON.parse(await Deno.readTextFile(new URL("finetune.json", folder))) as {
    schedules: Finetune[];
  };
  let compared = 0;
  for (const { kind, llrd, llrd_end, layers, total_steps, warmup_steps, groups } of schedules) {
    for (const { lr_base, llrd_scale, lr, params } of groups) {
      for (const name of params) assertEquals(layersAbove(name, layers), llrd_scale, name);
      const rate = layerCosine({
        peak: lr_base,
        steps: total_steps,
        warmupSteps: warmup_steps,
        above: llrd_scale,
        decay: llrd,
        layerWarmup: kind === "llrd_cosine_warmup",
        ...(llrd_end !== null && { decayEnd: llrd_end }),
      });
      for (const [k, expected] of Object.entries(lr)) {
        assertAlmostEquals(rate(Number(k)), expected, expected * 1e-12, `${params[0]} at ${k}`);
        compared++;
      }
    }
  }
  assertEquals(compared, 757); // 5 schedules of 9 or 11 groups
});

Deno.test("a decay that cannot be is refused, and one that moves while layers warm up by their factors", () => {
  const options = { peak: 1, steps: 4, warmupSteps: 1, above: 1 };
  assertThrows(() => layerCosine({ ...options, decay: 0 }), RangeError, "decay: expected a number above 0");
  assertThrows(
    () => layerCosine({ ...options, decay: 0.5, decayEnd: 1, layerWarmup: true }),
    RangeError,
    "decayEnd",
  );
});
