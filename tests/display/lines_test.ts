import { assert, assertEquals } from "@std/assert";
import { boardFigure, lightSvg, type LineBoard } from "../../lib/display/lines.ts";

/** A board with one line. */
function board(y: readonly number[]): LineBoard {
  const line = { name: "loss", color: "#000", x: y.map((_, i) => i + 1), y };
  return {
    ...{ title: "Training", subtitle: "", xTitle: "step", width: 820, height: 500 },
    charts: [{ title: "Loss", lines: [line], left: 54, top: 104, right: 544, bottom: 470 }],
  };
}

Deno.test("a line of many points keeps its spikes, its dips and its ends, in the order of the steps", () => {
  const plain = Array.from({ length: 123_457 }, (_, i) => 1 / (i + 1));
  for (const at of [0, 1, 2, 57, 61_728, 99_999, 123_455, 123_456]) {
    for (const spike of [50, -50]) {
      const one = board(plain.with(at, spike).with(400, NaN)),
        trace = boardFigure(one).toJSON().data[0]! as never;
      const { x, y } = trace as { x: number[]; y: number[] };
      assert(y.includes(spike), `${spike} at ${at}`);
      assertEquals([x[y.indexOf(spike)], x[0], x.at(-1)], [at + 1, 1, plain.length]);
      assert(x.every((step, i) => i === 0 || step > x[i - 1]!) && y.every(Number.isFinite));
      assert(x.length <= 1002, `${x.length} points`);
      const path = /<path d="M([^"]*)h0"/.exec(lightSvg(one))![1]!,
        heights = path.split("L").map((p) => Number(p.split(" ")[1]));
      assert(heights.length <= 302, `${heights.length} points`);
      const reached = spike > 0 ? Math.min(...heights) < 104 + 40 : Math.max(...heights) > 470 - 40;
      assert(reached, `${spike} at ${at} is not drawn`);
    }
  }
});
