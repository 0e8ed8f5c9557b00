/** Minimising a smooth convex function by its gradient alone. @module */
import { dot } from "./linalg.ts";

/** What {@linkcode minimise} needs. */
export interface Problem {
  gradient(point: Float64Array): Promise<Float64Array>;
  /** Something like the inverse Hessian times a vector; the closer, the fewer steps. */
  precondition(vector: Float64Array): Float64Array;
  /** Whether the gradient is small enough. */
  done(gradient: Float64Array): boolean;
  maxIterations: number;
}

/** Steps taken and the gradient's change over each: what is known of the curvature. */
export interface Pair {
  step: Float64Array;
  change: Float64Array;
}

/** A point, and the gradient there. */
interface Place {
  point: Float64Array;
  gradient: Float64Array;
}

/** Where {@linkcode minimise} ended. */
export interface Minimum extends Place {
  iterations: number;
  /** The last steps, for the start of a similar problem. */
  pairs: Pair[];
}

/** Steps remembered. */
const MEMORY = 120;

function add(to: Float64Array, factor: number, b: Float64Array): Float64Array {
  for (let i = 0; i < to.length; i++) to[i]! += factor * b[i]!;
  return to;
}

const plus = (a: Float64Array, factor: number, b: Float64Array) => add(a.slice(), factor, b);

/** Minus the inverse Hessian times the gradient, as the pairs tell it (L-BFGS, Nocedal 1980: two loops). */
function direction(gradient: Float64Array, pairs: readonly Pair[], problem: Problem): Float64Array {
  const q = gradient.map((x) => -x), shares: number[] = [], last = pairs.at(-1);
  for (const { step, change } of pairs.toReversed()) {
    shares.unshift(dot(step, q) / dot(step, change));
    add(q, -shares[0]!, change);
  }
  let z = problem.precondition(q);
  if (last) {
    const scale = dot(last.step, last.change) / dot(last.change, problem.precondition(last.change));
    z = z.map((x) => scale * x);
  }
  pairs.forEach(({ step, change }, i) => add(z, shares[i]! - dot(change, z) / dot(step, change), step));
  return z;
}

/**
 * How far to go, by the slope alone: for a convex function it rises along the line, so that a slope between 0.9 of the
 * first and half of it with the other sign brackets the minimum without looking at values, which float32 blurs.
 */
async function search({ point, gradient }: Place, along: Float64Array, problem: Problem): Promise<Place> {
  const first = dot(gradient, along);
  let low = 0, lowSlope = first, high = Infinity, size = 1;
  for (let trial = 0;; trial++) {
    const there = plus(point, size, along), found = await problem.gradient(there), slope = dot(found, along);
    if (trial === 10 || (slope >= 0.9 * first && slope <= -0.5 * first)) {
      return { point: there, gradient: found };
    }
    if (slope < 0) {
      [low, lowSlope] = [size, slope];
      size = high === Infinity ? 2 * size : (low + high) / 2;
    } else {
      high = size;
      size = low + (size - low) * lowSlope / (lowSlope - slope); // where a straight slope is 0
    }
  }
}

/**
 * L-BFGS from `start`, with the pairs of a similar problem if there are any.
 *
 * @returns The point where the gradient was small enough, or where no step made it better or `maxIterations` were over.
 */
export async function minimise(
  start: Float64Array,
  problem: Problem,
  pairs: readonly Pair[] = [],
): Promise<Minimum> {
  let here: Place = { point: start, gradient: await problem.gradient(start) }, iterations = 0;
  let known = pairs.filter(({ step, change }) => dot(step, change) > 0);
  while (!problem.done(here.gradient) && iterations < problem.maxIterations) {
    let along = direction(here.gradient, known, problem);
    if (!(dot(along, here.gradient) < 0)) { // rounding has the upper hand: forget, or give up
      if (known.length === 0) break;
      known = [];
      along = direction(here.gradient, known, problem);
    }
    const next = await search(here, along, problem);
    const pair = { step: plus(next.point, -1, here.point), change: plus(next.gradient, -1, here.gradient) };
    if (dot(pair.step, pair.change) > 0) known = [...known, pair].slice(-MEMORY);
    here = next;
    iterations++;
  }
  return { ...here, iterations, pairs: known };
}
