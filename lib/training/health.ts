/** Is the training well? Collapse and divergence. @module */
import { LOSS_WINDOW, meanLoss, type Metrics, type Step } from "./history.ts";

/** Watches the steps of a run; says each thing once, in plain words. */
export class Watch {
  #best = Infinity;
  #recent: Step[] = [];
  #said = { collapsed: false, diverged: false };

  /** What has to be said at this step, if anything. */
  notice(step: Step): string | undefined {
    return step.metrics?.featureStd !== undefined && this.#collapse(step, step.metrics) ||
      this.#divergence(step);
  }

  #collapse({ step, loss }: Step, { collapsed, featureStd, effectiveRank }: Metrics): string | undefined {
    if (!this.#begins("collapsed", collapsed)) return undefined;
    const [std, rank, value] = [featureStd.toFixed(3), effectiveRank.toFixed(2), loss.toFixed(3)];
    return `step ${step}: collapsed. The patch embeddings are nearly all alike (std ${std}, effective rank ${rank}), ` +
      `so the loss of ${value} says nothing. Is the stop-gradient on? Else try a smaller learning rate.`;
  }

  /** The mean of the last losses against the best such mean so far. */
  #divergence(step: Step): string | undefined {
    this.#recent.push(step);
    if (this.#recent.length > LOSS_WINDOW) this.#recent.shift();
    if (this.#recent.length < LOSS_WINDOW) return undefined;
    const mean = meanLoss(this.#recent);
    this.#best = Math.min(this.#best, mean);
    const limit = this.#best + Math.max(0.15, 0.5 * Math.abs(this.#best));
    if (!this.#begins("diverged", !(mean < limit))) return undefined;
    const [now, best, rate] = [mean.toFixed(3), this.#best.toFixed(3), step.lr.toExponential(1)];
    return `step ${step.step}: diverging. The mean loss of the last ${LOSS_WINDOW} steps is ${now}, it was ${best} at ` +
      `best. Try a smaller learning rate (now ${rate}) or a longer warm-up.`;
  }

  /** Whether something begins: it is said once, and again only when it was over in between. */
  #begins(what: "collapsed" | "diverged", holds: boolean): boolean {
    const begins = holds && !this.#said[what];
    this.#said[what] = holds;
    return begins;
  }
}
