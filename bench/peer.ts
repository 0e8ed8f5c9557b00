/** The official PyTorch code as a process that works when it is asked to. */
import { fileURLToPath } from "node:url";
import { type NepaConfig, nepaConfig, type NepaOptions, toOfficialConfig } from "nepa";
import { cacheRoot } from "../lib/engine/install.ts";
import type { Contender } from "./common.ts";
import { OptionError } from "./options.ts";
import { Answering } from "./process.ts";

const MODES = ["eager", "compile", "bf16"] as const;
const TORCH = "torch==2.13.0", REST = ["transformers==4.56.2", "numpy"];

/** What Hugging Face's I-JEPA needs beside PyTorch. */
export const WITH_IJEPA: readonly string[] = ["transformers==5.24.0", "numpy"];

/** How PyTorch runs a step: as it is with sdpa, by torch.compile, with autocast to bfloat16. */
export type TorchMode = typeof MODES[number];
export const TORCH_MODES: readonly TorchMode[] = MODES;

/** Whether a command ends well. */
export async function succeeds(command: string, ...args: string[]): Promise<boolean> {
  return (await new Deno.Command(command, { args, stdout: "null" }).output()).success;
}

/** A Python in a virtual environment of a name under the cache, in which pip has installed the packages by the first way that works. */
export async function venv(name: string, ways: readonly (readonly string[])[]): Promise<string> {
  const folder = `${cacheRoot(Deno.env.toObject())}/${name}`, wanted = ways[0]!.join(" ");
  const python = `${folder}/bin/python`, done = `${folder}/installed`;
  if (await Deno.readTextFile(done).catch(() => "") === wanted) return python;
  console.error(`installing ${wanted} into ${folder}`);
  if (!await succeeds("python3", "-m", "venv", folder)) throw new Error("python3 -m venv failed; see above");
  for (const way of ways) {
    if (!await succeeds(python, "-m", "pip", "install", "-q", ...way)) continue;
    await Deno.writeTextFile(done, wanted);
    return python;
  }
  throw new Error(
    `pip could not install ${wanted}; see above. --python takes a Python that has them already`,
  );
}

/** A Python with PyTorch and the transformers library: the one given, or one in a virtual environment made for it. */
export async function python(given: string, rest: readonly string[] = REST): Promise<string> {
  if (given) return given;
  // On Linux the package index has CUDA's build only; PyTorch's own index has the one for CPUs.
  const ways = Deno.build.os === "linux"
    ? [[`${TORCH}+cpu`], [`${TORCH}+cpu`, "--extra-index-url", "https://download.pytorch.org/whl/cpu"]]
    : [[TORCH]];
  const name = rest === REST ? "bench-venv" : "bench-venv-ijepa";
  return await venv(name, ways.map((way) => [...way, ...rest]));
}

/** The fields that the official class takes. */
function officialOf(config: NepaConfig): object {
  const { model_type: _, dtype: __, ...official } = toOfficialConfig(config);
  return official;
}

/** The process. */
export class TorchPeer implements Contender {
  readonly name: string;
  /** The last answer: a loss, the last image's features, how far weights lie apart, or a training's losses. */
  value: number | number[] | undefined;
  readonly #process: Answering;

  private constructor(process: Answering) {
    this.name = process.name;
    this.#process = process;
  }

  /**
   * @param name What it is called.
   * @param options `official`: a checkout of the official code. `python`: a Python to run it, or "".
   */
  static async start(name: string, options: { official: string; python: string }): Promise<TorchPeer> {
    if (!options.official) {
      throw new OptionError("--peer torch: expected --official with a checkout of SihanXU/nepa");
    }
    const script = fileURLToPath(new URL("torch_peer.py", import.meta.url));
    const args = ["-W", "ignore", script, options.official];
    return new TorchPeer(new Answering(name, await python(options.python), { args }));
  }

  async #ask(request: unknown): Promise<number[]> {
    const { seconds, value } = await this.#process.ask<{ seconds: number[]; value: TorchPeer["value"] }>(
      request,
    );
    this.value = value;
    return seconds;
  }

  /** Makes a model; from then on a step is a training step. */
  async train(config: NepaConfig, batch: number, mode: TorchMode): Promise<void> {
    await this.#ask({ config: officialOf(config), batch, mode });
  }

  /** Loads a model; from then on a step is the features of all images in a file of uint8. */
  async features(model: string, images: string, batch: number): Promise<void> {
    await this.#ask({ model, images, batch });
  }

  /**
   * Trains a network from random weights as `pretrain` does; gives the loss of each step.
   *
   * @param pretraining Its configuration, a seed, and options as `pretrain` names them, `flip` too.
   * @param data A gzipped IDX file of images.
   * @param save Where the model goes.
   */
  async pretrain(
    { network, seed, training }: { network: NepaOptions; seed: number; training: object },
    data: string,
    save: string,
  ): Promise<number[]> {
    const pretrain = { config: officialOf(nepaConfig(network)), seed, training };
    await this.#ask({ pretrain, data, save });
    return this.value as number[];
  }

  /** Loads a model to train beside ours. */
  async follow(model: string): Promise<void> {
    await this.#ask({ follow: model });
  }

  /** One update of it on images [B, H, W, 1] in a file of uint8; gives the loss. */
  async update(images: string, rate: number, rescale: number): Promise<number> {
    await this.#ask({ images, rate, rescale });
    return this.value as number;
  }

  /** The median over its weights of |difference| / |weight| to those of a model in a folder, which it then takes. */
  async apart(model: string): Promise<number> {
    await this.#ask({ apart: model });
    return this.value as number;
  }

  steps(n: number): Promise<number[]> {
    return this.#ask({ rounds: n });
  }

  /** The most memory that it has had, in MB. */
  peak(): Promise<number | undefined> {
    return this.#process.peak();
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }
}
