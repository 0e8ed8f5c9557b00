import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { layerDecay, warmupCosine } from "../lib/schedule.ts";

const folder = new URL("fixtures/schedules/", import.meta.url);

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

Deno.test("layer-wise decay gives each parameter the official factor", async () => {
  const { schedules } = JSON.parse(await Deno.readTextFile(new URL("finetune.json", folder))) as {
    schedules: { llrd: number; layers: number; params: Record<string, { lr_scale: number }> }[];
  };
  for (const { llrd, layers, params } of schedules) {
    for (const [name, { lr_scale }] of Object.entries(params)) {
      assertAlmostEquals(layerDecay(name, layers, llrd), lr_scale, 1e-12, name);
    }
  }
});
