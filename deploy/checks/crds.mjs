// Judges custom resources by the schemas of their CRDs, as packages of the npm registry have them: types and required fields by the
// schemas, unknown fields by TypeScript, which the schemas let pass.
//
//   node crds.mjs OBJECTS.json OUT.ts       copied into the folder of the packages, and run there
import { readFileSync, writeFileSync } from "node:fs";

const PACKAGES = {
  "cert-manager.io/v1": "@kubernetes-models/cert-manager/cert-manager.io/v1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};
const [objectsFile, out] = process.argv.slice(2);
const objects = JSON.parse(readFileSync(objectsFile, "utf8"));
let wrong = 0;
let typescript = "";
for (const [number, object] of objects.entries()) {
  const name = `${object.kind} ${object.metadata.name}`;
  const from = PACKAGES[object.apiVersion];
  if (!from) {
    console.error(`crds: ${name}: no schema for ${object.apiVersion}`);
    wrong += 1;
    continue;
  }
  const models = await import(from);
  try {
    new models[object.kind](object).validate();
  } catch (error) {
    console.error(`crds: ${name}: ${error.message}`);
    wrong += 1;
  }
  typescript += `import type { I${object.kind} as T${number} } from "${from}";\n`;
  typescript += `const o${number}: T${number} = ${JSON.stringify(object)};\nvoid o${number};\n`;
}
writeFileSync(out, typescript);
if (wrong > 0) process.exit(1);
console.log(`${objects.length} custom resources are right by the schemas of their CRDs`);
