/** What TypeScript files say of themselves, read by TypeScript's own parser. @module */
import ts from "typescript";

/** One import, or one export of another file's names. */
export interface Import {
  /** What stands in quotes. */
  specifier: string;
  /** Counted from 1. */
  line: number;
  /** The statement, in one line. */
  text: string;
  /** Names of values, as the other file exports them; "*": all of them, or the whole module. Empty: types alone. */
  names: readonly string[] | "*";
  /** What this file exports by them: its own name to the other file's, "*" for a whole module; undefined: it only imports. */
  exports?: Readonly<Record<string, string>> | "*";
  /** Whether it is loaded with the file: an `import()` is not. */
  loaded: boolean;
}

function parse(text: string): ts.SourceFile {
  return ts.createSourceFile("file.ts", text, ts.ScriptTarget.Latest, true);
}

/** Names of values in braces, each with its name on the other side. */
function valuesIn(elements: readonly (ts.ImportSpecifier | ts.ExportSpecifier)[]): [string, string][] {
  return elements.filter(({ isTypeOnly }) => !isTypeOnly)
    .map(({ name, propertyName }) => [name.text, (propertyName ?? name).text]);
}

function imported(clause: ts.ImportClause | undefined): Import["names"] {
  if (!clause) return "*";
  if (clause.isTypeOnly) return [];
  const { namedBindings } = clause;
  if (namedBindings && !ts.isNamedImports(namedBindings)) return "*";
  const named = valuesIn(namedBindings?.elements ?? []).map(([, other]) => other);
  return clause.name ? ["default", ...named] : named;
}

function exported({ exportClause, isTypeOnly }: ts.ExportDeclaration): Pick<Import, "names" | "exports"> {
  if (isTypeOnly) return { names: [], exports: {} };
  if (!exportClause) return { names: "*", exports: "*" };
  if (ts.isNamespaceExport(exportClause)) return { names: "*", exports: { [exportClause.name.text]: "*" } };
  const values = valuesIn(exportClause.elements);
  return { names: values.map(([, other]) => other), exports: Object.fromEntries(values) };
}

/** The string and the names of a node that imports. */
function read(node: ts.Node): Omit<Import, "line" | "text" | "specifier"> & { from?: ts.Node | undefined } {
  if (ts.isImportDeclaration(node)) {
    return { from: node.moduleSpecifier, names: imported(node.importClause), loaded: true };
  }
  if (ts.isExportDeclaration(node)) return { from: node.moduleSpecifier, ...exported(node), loaded: true };
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    return { from: node.arguments[0], names: "*", loaded: false };
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    return { from: node.argument.literal, names: [], loaded: false };
  }
  return { names: [], loaded: false };
}

/** Every import of a file, `import()` and types included, in its order. */
export function importsOf(text: string): Import[] {
  const file = parse(text), found: Import[] = [];
  const visit = (node: ts.Node): void => {
    const { from, ...rest } = read(node);
    if (from && ts.isStringLiteralLike(from)) {
      const line = file.getLineAndCharacterOfPosition(node.getStart()).line + 1;
      found.push({ specifier: from.text, line, text: node.getText().replaceAll(/\s+/g, " "), ...rest });
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

/** Whether a file has nothing but exports of other files' names, and imports for their effect. */
export function isBarrel(text: string): boolean {
  return parse(text).statements.every((node) =>
    ts.isExportDeclaration(node) ? node.moduleSpecifier : ts.isImportDeclaration(node) && !node.importClause
  );
}

/** Names of the values that a file makes and exports. */
export function declaredIn(text: string): Set<string> {
  const names = parse(text).statements.flatMap((node) => {
    if (ts.isExportDeclaration(node)) {
      const named = !node.moduleSpecifier && !node.isTypeOnly && node.exportClause;
      return named && ts.isNamedExports(named) ? valuesIn(named.elements).map(([own]) => own) : [];
    }
    const modifiers = ts.canHaveModifiers(node) ? ts.getModifiers(node) : undefined;
    if (!modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)) return [];
    if (ts.isVariableStatement(node)) {
      return node.declarationList.declarations.map(({ name }) => name.getText());
    }
    return ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node) ? node.name?.text ?? "default" : [];
  });
  return new Set(names);
}

/** Lines that hold more than blanks and comments. */
export function codeLines(text: string): number {
  const file = parse(text), lines = text.split("\n"), code = new Set<number>();
  const { FirstJSDocNode, LastJSDocNode } = ts.SyntaxKind;
  const visit = (node: ts.Node): void => {
    const children = node.getChildren().filter(({ kind }) => kind < FirstJSDocNode || kind > LastJSDocNode);
    if (children.length > 0) return children.forEach(visit);
    const [first, last] = [node.getStart(), node.getEnd()].map((at) =>
      file.getLineAndCharacterOfPosition(at).line
    );
    if (node.getEnd() === node.getStart()) return;
    for (let line = first!; line <= last!; line++) if (lines[line]!.trim()) code.add(line);
  };
  visit(file);
  return code.size;
}

/** The object in JSON with comments. */
export function jsonc<T>(text: string): T {
  const { config, error } = ts.parseConfigFileTextToJson("deno.json", text);
  if (error) throw new SyntaxError(ts.flattenDiagnosticMessageText(error.messageText, "\n"));
  return config;
}
