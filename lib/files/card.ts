/** The page that the Hugging Face hub shows of a model: a README.md made from what is known of it. @module */

/** What a card says of a training: as `Run.result` gives it. */
export interface RunSummary {
  steps: number;
  lossFirst: number;
  lossLast: number;
  stopped: boolean;
  history: readonly { validation?: { loss: number; accuracy?: number } }[];
}

/** Options of `Nepa.save` and `NepaClassifier.save`: what the model card says besides what the model itself knows. */
export interface SaveOptions {
  /** How it was trained: what `Run.finish` or `Run.result` gave. */
  run?: RunSummary;
  /** The licence by the hub's name for it: "mit". Default: none is named. */
  license?: string;
  /** Data sets it was trained on, by their names on the hub: "zalando-datasets/fashion_mnist". Default: none. */
  datasets?: readonly string[];
}

/** A card with this line is replaced by the next save; one without it is the user's. */
export const CARD_MARK =
  "<!-- nepa wrote this card, and its next save replaces it; without this line, it stays. -->";

/** Text that neither Markdown nor HTML takes for anything else. */
function plain(text: string): string {
  const special = /[&<>"'`|*_[\]\\~#$:@{}]/g;
  return text.replace(/[\s\p{C}]+/gu, " ").replace(special, (c) => `&#${c.charCodeAt(0)};`);
}

/** A name as YAML, which takes JSON's strings. */
function hubName(option: string, name: string): string {
  if (/^[\w.-]+(\/[\w.-]+)?$/.test(name)) return JSON.stringify(name);
  throw new RangeError(`${option}: expected the hub's name, such as "mit", got ${JSON.stringify(name)}`);
}

/** What is worth saying of a training. */
function training({ steps, lossFirst, lossLast, history, stopped }: RunSummary): string[] {
  const last = history.findLast(({ validation }) => validation)?.validation, lines = [];
  lines.push(`- Updates of the weights: ${steps}${stopped ? ", stopped before the end" : ""}`);
  if (steps > 0) lines.push(`- Mean loss: ${lossFirst.toFixed(4)} at first, ${lossLast.toFixed(4)} at last`);
  if (last) lines.push(`- Loss on held-out images: ${last.loss.toFixed(4)}`);
  if (last?.accuracy !== undefined) lines.push(`- Accuracy on held-out images: ${last.accuracy.toFixed(4)}`);
  return ["", "## Training", "", ...lines];
}

/**
 * Writes a model card.
 *
 * @param title The model's name.
 * @param model What `config.json` says of it; its classes, if it is a classifier.
 * @param options What else is known.
 * @returns Markdown, with the hub's fields in front; names in it are text, whatever they hold.
 * @throws {RangeError} If a licence or a data set is no name on the hub.
 */
export function modelCard(
  title: string,
  model: { config: Record<string, unknown>; parameterCount: number; classes?: readonly string[] | undefined },
  { run, license, datasets = [] }: SaveOptions = {},
): string {
  const { config: c, parameterCount, classes } = model, jepa = c.model_type === "ijepa";
  const name = classes ? "NepaClassifier" : jepa ? "IJepa" : "Nepa";
  const few = classes?.slice(0, 20).map(plain).join(", "), more = classes && classes.length > 20 ? ", …" : "";
  const listed = datasets.map((name) => `- ${hubName("datasets", name)}`);
  return [
    "---",
    "library_name: nepa",
    `pipeline_tag: ${classes ? "image-classification" : "image-feature-extraction"}`,
    ...license === undefined ? [] : [`license: ${hubName("license", license)}`],
    ...listed.length > 0 ? ["datasets:", ...listed] : [],
    "tags:\n- nepa\n- vision",
    `---\n\n${CARD_MARK}\n\n# ${plain(title)}\n`,
    classes ? "A classifier on a vision transformer" : "A vision transformer",
    ...jepa
      ? [
        "that was trained to predict blocks of an image from the rest (I-JEPA,",
        "[arXiv 2301.08243](https://arxiv.org/abs/2301.08243)).\n",
      ]
      : [
        "that predicts the embedding of an image's next patch",
        "([arXiv 2512.16922](https://arxiv.org/abs/2512.16922)).\n",
      ],
    `- Images: ${c.image_size} × ${c.image_size} × ${c.num_channels}, in patches of ${c.patch_size} × ${c.patch_size}`,
    `- Network: ${c.num_hidden_layers} blocks, width ${c.hidden_size}, ${c.num_attention_heads} heads`,
    `- Parameters: ${parameterCount.toLocaleString("en-US")}`,
    ...classes ? [`- Classes: ${classes.length}: ${few}${more}`] : [],
    ...run ? training(run) : [],
    `\n## Use\n\n\`\`\`ts\nimport { ${name}, useEngine } from "nepa";\n\nawait useEngine();`,
    `const model = await ${name}.load("path/to/this/folder");\n\`\`\`\n`,
  ].join("\n");
}
