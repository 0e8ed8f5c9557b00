/** Lets the engine speak and show its progress as the rest of the library does. Imported for its effect. @module */
import { inNotebook, say } from "./display/jupyter.ts";
import { progress } from "./display/progress.ts";
import { configureEngine } from "@nepa/engine/host";

configureEngine({ say, progress, inNotebook });
