// Prints the fields of the Elastic Common Schema: name, type, whether they hold lists, and values.
import ecs from "@elastic/ecs";

const fields = Object.entries(ecs.EcsFlat).map(([name, { type, normalize, allowed_values }]) => [
  name,
  { type, list: normalize.includes("array"), values: allowed_values?.map((value) => value.name) },
]);
console.log(JSON.stringify(Object.fromEntries(fields)));
