// How a Dockerfile is built: what buildah is given, as files of ebb's own writing, and the commands between. Pure.

import { declaredBy } from "./dockerfile-words.ts";
import type { Dockerfile, Instruction, Refuse } from "./dockerfile.ts";
import { defaultShell, listOf, readRun, type RunInstruction } from "./run-instruction.ts";

/** What an image is asked for a variable by; nobody else's label begins with it. */
export const argumentLabel = "ebb.build.argument.";

export type Step =
  /** For buildah, on the image so far. */
  | {
      readonly kind: "said";
      readonly line: number;
      readonly instructions: readonly Instruction[];
      readonly shell: readonly string[];
      /** Declared before, and not again here. */
      readonly before: readonly string[];
      /** A command comes after it, here or in a stage that stands on this one: the same has to be the same layer again. */
      readonly runs: boolean;
      /** A command needs the values of these, and whether they have any, when it is done. */
      readonly asked: ReadonlyArray<{ readonly name: string; readonly given: boolean }>;
    }
  | ({ readonly kind: "run" } & RunInstruction);

export interface StagePlan {
  readonly line: number;
  readonly from: string | number;
  readonly steps: readonly Step[];
  readonly shell: readonly string[];
}

export function hasRuns({ stages }: Dockerfile): boolean {
  return stages.some(({ instructions }) => instructions.some(({ name }) => name === "RUN"));
}

/** The stages that the last one needs, by their numbers, in their order. */
export function neededStages({ stages }: Dockerfile): readonly number[] {
  const needed = new Set<number>();
  const need = (index: number): void => {
    if (needed.has(index)) return;
    const { from, instructions } = stages[index]!;
    for (const one of [from, ...instructions.flatMap(({ froms }) => froms.map((said) => said.from))])
      if (typeof one === "number") need(one);
    needed.add(index);
  };
  need(stages.length - 1);
  return [...needed].toSorted((one, other) => one - other);
}

/** `shell`: of the stage that it stands on, as it is when that ends. */
export function planStage(file: Dockerfile, index: number, shell: readonly string[], refuse: Refuse): StagePlan {
  const { line, from, instructions } = file.stages[index]!;
  const steps: Step[] = [];
  const declared: string[] = [];
  const globals = new Set(file.globals.flatMap(({ rest }) => declaredBy(rest, file.escape).map(({ name }) => name)));
  let current = shell;
  let shellBefore = shell;
  let said: Instruction[] = [];
  const say = (runsHere: boolean, runs = runsHere): void => {
    if (said.length === 0) return;
    const here = said
      .filter(({ name }) => name === "ARG")
      .flatMap(({ rest }) => declaredBy(rest, file.escape))
      .map(({ name, given }) => ({ name, given: given || globals.has(name) || file.args.has(name) }));
    const before = declared.filter((name) => !here.some((one) => one.name === name));
    const asked = runsHere ? here : [];
    steps.push({ kind: "said", line: said[0]!.line, instructions: said, shell: shellBefore, before, runs, asked });
    shellBefore = current;
    declared.push(...here.map(({ name }) => name).filter((name) => !declared.includes(name)));
    said = [];
  };
  for (const instruction of instructions) {
    if (instruction.name === "RUN") {
      say(true);
      steps.push({ kind: "run", ...readRun(instruction, current, file.escape, refuse) });
      continue;
    }
    said.push(instruction);
    if (instruction.name !== "SHELL") continue;
    const list = listOf(instruction.rest);
    if (list === null) throw refuse(instruction.line, 'SHELL is a JSON list, as in SHELL ["/bin/sh", "-c"]');
    current = list;
  }
  say(
    false,
    file.stages.some((stage) => stage.from === index),
  );
  return { line, from, steps, shell: current };
}

/** Of a whole file that runs nothing. */
export function writtenWhole(file: Dockerfile): string {
  const stages = file.stages.map(({ from, instructions }, index) => [
    `FROM ${typeof from === "number" ? wholeName(from) : from} AS ${wholeName(index)}`,
    ...instructions.map((one) => written(one, wholeName)),
  ]);
  return inOneFile(file, stages.flat());
}

const wholeName = (stage: number): string => `ebb-stage-${stage}`;

/** Of one step, on an image that has a name. */
export function writtenStep(
  file: Dockerfile,
  step: Extract<Step, { kind: "said" }>,
  image: string,
  stageName: (stage: number) => string,
): string {
  const asked = step.asked.map(({ name }) => `LABEL ${argumentLabel}${name}="\${${name}}"`);
  return inOneFile(file, [
    `FROM ${image}`,
    ...step.before.map((name) => `ARG ${name}`),
    ...(step.shell === defaultShell ? [] : [`SHELL ${JSON.stringify(step.shell)}`]),
    ...step.instructions.map((one) => written(one, stageName)),
    ...asked,
  ]);
}

function inOneFile({ escape, globals }: Dockerfile, lines: readonly string[]): string {
  const directive = escape === "`" ? ["# escape=`"] : [];
  return [...directive, ...globals.map((one) => written(one, String)), ...lines, ""].join("\n");
}

/** On one line, and with nothing left to be looked up that ebb has looked up. */
function written({ name, rest, froms }: Instruction, stageName: (stage: number) => string): string {
  const words = rest.split(/([\s\u0085]+)/).map((word) => {
    const found = froms.find(({ option }) => option === word);
    if (found === undefined) return word;
    return `--from=${typeof found.from === "number" ? stageName(found.from) : found.from}`;
  });
  return `${name} ${words.join("")}`;
}
