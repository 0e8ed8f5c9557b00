/**
 * Figures, tables and pictures: of runs, networks and numbers of your own: `nepa/plot`.
 *
 * @module
 */
import "./network.ts";
export { type Cell, formatNumber, formatPercent, Table, type TableOptions } from "../display/table.ts";
export { type Progress, progress, type ProgressOptions } from "../display/progress.ts";
export { Figure, type FigureLayout, type Trace } from "../display/figure.ts";
export { imageGrid, type ImageGridOptions, type Mark, type Picture } from "../display/pictures.ts";
export { barChart, type BarChartOptions, heatMaps, type HeatMapsOptions } from "../display/charts.ts";
export { lineChart, type LineChartOptions } from "../display/charts.ts";
export type { MediaBundle } from "../display/jupyter.ts";
export { plotRun, runFigure } from "./run.ts";
export { attentionMap, type AttentionMapOptions, displayContrast } from "./maps.ts";
export { predictionMap, type PredictionMapOptions } from "./maps.ts";
export { type ImageMasks, plotMask, plotPatches } from "./patches.ts";
export { type AttentionOptions, plotAttention } from "./attention.ts";
export { type ExpectationOptions, plotExpectation } from "./attention.ts";
export { type PatchColorOptions, plotClassMap, plotPatchColors } from "./components.ts";
export { type ImaginationOptions, plotImagination } from "./imagination.ts";
export { compareRuns, plotRuns } from "./compare.ts";
