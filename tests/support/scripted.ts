// A script as people write them, with one step of it chosen by the first argument; signals are sent by itself.
import { linearProbe, Nepa, plotRun, pretrain, useEngine } from "nepa";
import { pressCtrlC } from "./ctrl_c.ts";
import { config, noise } from "./tiny.ts";

await useEngine("cpu");
const model = new Nepa({ ...config, numHiddenLayers: 1 }, { seed: 0 }), [what, folder = ""] = Deno.args;
const run = pretrain(model, noise, { steps: 1000, batchSize: 4, compile: false });
const interruptSoon = () => setTimeout(pressCtrlC, 100);

switch (what) {
  case "finish":
    interruptSoon();
    await run.finish();
    break;
  case "plotRun":
    interruptSoon();
    await plotRun(run);
    break;
  case "break":
    for await (const _ of run) {
      pressCtrlC();
      await new Promise((resolve) => setTimeout(resolve, 50));
      break;
    }
    break;
  case "probe":
    run.dispose();
    interruptSoon();
    for (;;) await linearProbe(model, noise, noise, { overlap: "allow" });
  case "hub": {
    run.dispose();
    const never = () => (pressCtrlC(), new Promise<Response>(() => {}));
    const { addr } = Deno.serve({ port: 0, onListen() {} }, never);
    Deno.env.set("HF_ENDPOINT", `http://localhost:${addr.port}`);
    await Nepa.load("nobody/no-such-model");
    break;
  }
  case "await":
    await run;
    await model.save(folder);
    break;
}
console.log("went on");
