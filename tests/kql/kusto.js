// Parses and binds KQL with Kusto's own language service; no Kusto engine is needed.
//
// Reads {"tables": {table: {column: type}}, "texts": {name: text}} from standard input and writes
// {name: [diagnostic]}, each "code message (at offset)". The first argument is the package's folder.

'use strict';

const path = require('node:path');

const folder = process.argv[2];
require(path.join(folder, 'bridge.min.js')); // the runtime that the next one is compiled for
require(path.join(folder, 'Kusto.Language.Bridge.min.js'));

const { GlobalState, KustoCode, Symbols } = globalThis.Kusto.Language;

// The numbers of these constructors are the package's: $ctor7(name, schema, description) and
// $ctor3(name, alternative name, members, open). The database is closed: an unknown table is an error.
function globalsOf(tables) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const schema = Object.entries(columns).map(([column, type]) => `${column}:${type}`);
    return new Symbols.TableSymbol.$ctor7(name, `(${schema.join(', ')})`, '');
  });
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.$ctor3('logs', null, symbols, false));
}

function diagnose(text, globals) {
  const found = KustoCode.ParseAndAnalyze(text, globals).GetDiagnostics();
  return Array.from({ length: found.Count }, (_, index) => {
    const one = found.getItem(index);
    return `${one.Code} ${one.Message} (at ${one.Start})`;
  });
}

const { tables, texts } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const globals = globalsOf(tables);
const answers = Object.entries(texts).map(([name, text]) => [name, diagnose(text, globals)]);
process.stdout.write(JSON.stringify(Object.fromEntries(answers)));
