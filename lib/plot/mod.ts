/**
 * Figures, tables and pictures: of runs, networks and numbers of your own: `nepa/plot`.
 *
 * @module
 */
import "./network.ts";
export { formatNumber, formatPercent, Table } from "../display/table.ts";
export type { Cell, TableOptions } from "../display/table.ts";
export { progress } from "../display/progress.ts";
export type { Progress, ProgressOptions } from "../display/progress.ts";
export { Figure } from "../display/figure.ts";
export type { FigureLayout, Trace } from "../display/figure.ts";
export { imageGrid } from "../display/pictures.ts";
export type { ImageGridOptions, Mark, Picture } from "../display/pictures.ts";
export { barChart } from "../display/bars.ts";
export type { BarChartOptions } from "../display/bars.ts";
export { heatMaps, lineChart } from "../display/charts.ts";
export type { HeatMapsOptions, LineChartOptions } from "../display/charts.ts";
export type { MediaBundle } from "../display/jupyter.ts";
export { plotRun, runFigure } from "./run.ts";
export { attentionMap, displayContrast, predictionMap } from "./maps.ts";
export type { AttentionMapOptions, PredictionMapOptions } from "./maps.ts";
export { plotMask, plotPatches } from "./patches.ts";
export type { ImageMasks } from "./patches.ts";
export { plotExpectation } from "./expectation.ts";
export type { ExpectationOptions } from "./expectation.ts";
export { plotAttention } from "./attention.ts";
export type { AttentionOptions } from "./attention.ts";
export { plotClassMap, plotPatchColors } from "./components.ts";
export type { PatchColorOptions } from "./components.ts";
export { plotImagination } from "./imagination.ts";
export type { ImaginationOptions } from "./imagination.ts";
export { compareRuns, plotRuns } from "./compare.ts";
