// The house rules of the layers, kept by a test: imports point down, no cycles, every foreign package has one home, and no room touches what is not its own.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import t from 'tap'

/**
 * The first pattern that matches a file gives its layer; a file may import its own layer's folder and every layer below. Words, engines,
 * actors, the broker that brings them together, the server around it, doors. Connections and sessions see the broker and the store only
 * through interfaces.
 */
const layers: readonly [layer: number, files: RegExp][] = [
  [
    0,
    /^(account|blanks|errors|pem|permissions|printable|topic|version|words|log-events|reload-report)\.ts$|^config\/types\.ts$|^auth\/identity\.ts$|^protocol\/(packets|reason-codes)\.ts$/
  ],
  [
    1,
    /^(message|reload|storage)\.ts$|^(admin|config|auth|protocol)\/|^pki\/(library|names|profiles|authority|device|est|extensions|keys|pkcs12|record|request|revocation-entries|use-notes|x509)\.ts$/
  ],
  [1, /^broker\/(deadlines|match-cache|retained|router|sightings|stats|sys-topics)\.ts$/],
  [
    2,
    /^(files|snapshot|log|log-sinks|keylog)\.ts$|^(session|store|net|watch)\/|^pki\/(ca|certificate-keeper|development|enrolment|files|invitations|listing|lock|own-certificate|presented|record-file)\.ts$/
  ],
  [3, /^broker\//],
  [4, /^(server|enforcement|listeners|changes|enrolment-door|expiry-report|on-demand)\.ts$|^(check|doctor)\//],
  [5, /^index\.ts$|^cli\//]
]

/** Foreign packages and the files that may import them. */
const homes: Readonly<Record<string, RegExp>> = {
  aedes: /^broker\/(aedes-packets|audience|broker|client|events|hooks|standalone)\.ts$/,
  'classic-level': /^store\/level\.ts$/,
  ioredis: /^store\/redis\.ts$/,
  'aedes-persistence-redis': /^store\/redis\.ts$/,
  pino: /^log\.ts$/,
  strftime: /^log\.ts$/,
  'hash-wasm': /^auth\/password-worker\.ts$/,
  '@peculiar/asn1-cms': /^pki\/library\.ts$/,
  '@peculiar/asn1-schema': /^pki\/library\.ts$/,
  '@peculiar/asn1-x509': /^pki\/library\.ts$/,
  '@peculiar/x509': /^pki\/library\.ts$/,
  asn1js: /^pki\/pkcs12\.ts$/,
  pkijs: /^pki\/pkcs12\.ts$/,
  'reflect-metadata': /^pki\/library\.ts$/
}

/** Files beyond its home that may name a package's types: `import type`, of which nothing is left when the broker runs. */
const typesOf: Readonly<Record<string, RegExp>> = {
  // What stands between our engine and whoever embeds an Aedes: its packets, hooks, events and options.
  aedes: /^broker\/(aedes-packets|audience|client|events|hooks|standalone)\.ts$/
}

/** Engines get values and give values: no file, socket or process. The exceptions say why. */
const forbiddenInEngines = /^node:(fs|net|tls|http|https|dgram|child_process|worker_threads|process|timers)/
const engineExceptions: Readonly<Record<string, string>> = {
  'pki/names.ts': 'node:net for isIP, a pure function',
  'protocol/arena.ts': 'node:worker_threads to say that memory stays here',
  'auth/hash-threads.ts': 'hashing belongs into threads of its own',
  'auth/password-worker.ts': 'is such a thread',
  'auth/revocation-thread.ts': 'long lists belong into a thread of their own',
  'auth/revocation-worker.ts': 'is such a thread'
}

/** Edges between rooms of one layer, each with its reason. */
const sideways: Readonly<Record<string, string>> = {
  'log.ts -> log-sinks.ts': 'one room without a folder',
  'server.ts -> listeners.ts': 'one room without a folder',
  'server.ts -> enrolment-door.ts': 'one room without a folder',
  'server.ts -> changes.ts': 'one room without a folder',
  'server.ts -> on-demand.ts': 'one room without a folder',
  'enrolment-door.ts -> on-demand.ts': 'one room without a folder',
  'server.ts -> expiry-report.ts': 'one room without a folder',
  'expiry-report.ts -> listeners.ts': 'one room without a folder',
  'listeners.ts -> enforcement.ts': 'one room without a folder',
  'reload.ts -> config/difference.ts': 'which options changed',
  'reload.ts -> config/options.ts': 'which of them wait for a restart',
  'pki/revocation-entries.ts -> auth/der.ts': 'takes the list apart that it adds entries to',
  'pki/request.ts -> auth/der.ts': 'bounds a request before the library reads it',
  'message.ts -> protocol/frames.ts': 'a message keeps the bytes that were made of it for one receiver, for all',
  'message.ts -> protocol/arena.ts': 'where the packets of messages that stay lie',
  'storage.ts -> message.ts': 'what a store keeps',
  'broker/router.ts -> storage.ts': 'what a subscription is, for everybody',
  'broker/retained.ts -> message.ts': 'what is retained',
  'snapshot.ts -> net/tls.ts': 'what a TLS listener works with is part of the snapshot',
  'snapshot.ts -> net/psk.ts': 'and what one with pre-shared keys works with',
  'check/examine.ts -> enrolment-door.ts': 'whether the CA of the enrolment listener can sign',
  'check/report.ts -> enforcement.ts': 'what the log says of a listener, for people who ask before',
  'watch/places.ts -> files.ts': 'which names count in a folder',
  'watch/folder-watch.ts -> files.ts': 'which names count in a folder',
  'watch/file-watch.ts -> files.ts': 'what was read is compared with what is there',
  'net/enrolment-server.ts -> pki/enrolment.ts': 'HTTPS before what it asks, which may be asked in other ways',
  'snapshot.ts -> files.ts': 'reads every file of the snapshot',
  'net/tls.ts -> files.ts': 'reads those of a TLS listener',
  'net/crl-file.ts -> files.ts': 'reads its revocation lists'
}

interface Source {
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
  /** Those that are there at run time: not `import type`. */
  readonly loaded: readonly string[]
}

const root = join(process.cwd(), 'src')

const sources: readonly Source[] = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter(path => path.endsWith('.ts'))
  .map(path => {
    const text = readFileSync(join(root, path), 'utf8')
    const found = [
      ...text.matchAll(/(?:^|\n)(?:import|export)[^'"\n;]*(?:\n[^'"]*?)??from '([^']+)'|import\('([^']+)'\)|(?:^|\n)import '([^']+)'/g)
    ]
    const specifierOf = (match: RegExpExecArray): string => match[1] ?? match[2] ?? match[3] ?? ''
    const loaded = found.filter(([statement]) => !/^\s*(import|export) type\b/.test(statement))
    return { path, text, imports: found.map(specifierOf), loaded: loaded.map(specifierOf) }
  })

const isOurs = (specifier: string): boolean => specifier.startsWith('.')
const target = (source: Source, specifier: string): string =>
  relative(root, join(root, dirname(source.path), specifier)).replace(/\.js$/, '.ts')
const layerOf = (path: string): number | undefined => layers.find(([, files]) => files.test(path))?.[0]

t.test('every file has a layer', async t => {
  t.ok(sources.length > 20)
  t.same(
    sources.filter(({ path }) => layerOf(path) === undefined).map(({ path }) => path),
    []
  )
})

t.test('imports point down, or stay in their folder', async t => {
  const upward = sources.flatMap(source =>
    source.imports.filter(isOurs).flatMap(specifier => {
      const to = target(source, specifier)
      const [from, below] = [layerOf(source.path) ?? -1, layerOf(to) ?? 99]
      const sameFolder = dirname(source.path) === dirname(to) && dirname(to) !== '.'
      return below < from || (below === from && (sameFolder || from === 0 || `${source.path} -> ${to}` in sideways))
        ? []
        : [`${source.path} -> ${to}`]
    })
  )
  t.same(upward, [])
})

// Elsewhere it would fail for who has given up root.
t.test('what is loaded later is loaded in one place', async t => {
  const loading = sources.filter(({ text }) => text.includes("import('")).map(({ path }) => path)
  t.same(loading.toSorted(), ['cli/main.ts', 'on-demand.ts'])
})

// Of what is there at run time: a connection and those who handle its packets name each other's types.
t.test('no import leads back to where it started', async t => {
  const graph = new Map(sources.map(source => [source.path, source.loaded.filter(isOurs).map(specifier => target(source, specifier))]))
  const done = new Set<string>()
  const cycles: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' -> '))
    else if (!done.has(path)) {
      for (const next of graph.get(path) ?? []) visit(next, [...trail, path])
      done.add(path)
    }
  }
  for (const path of graph.keys()) visit(path, [])
  t.same(cycles, [])
})

t.test('a foreign package is imported in its home only', async t => {
  const strays = sources.flatMap(({ path, imports, loaded }) =>
    imports
      .filter(specifier => !isOurs(specifier) && !specifier.startsWith('node:'))
      .filter(specifier => !homes[specifier]?.test(path))
      .filter(specifier => loaded.includes(specifier) || !typesOf[specifier]?.test(path))
      .map(specifier => `${path} imports ${specifier}`)
  )
  t.same(strays, [])
})

t.test('every dependency of the package has a home', async t => {
  const manifest: { dependencies: Record<string, string> } = JSON.parse(readFileSync('package.json', 'utf8'))
  t.same(Object.keys(manifest.dependencies).sort(), Object.keys(homes).sort())
})

t.test('engines touch no file, socket, thread or process', async t => {
  const touching = sources
    .filter(({ path }) => layerOf(path) === 1 && !(path in engineExceptions))
    .flatMap(({ path, text, imports }) => [
      ...imports.filter(specifier => forbiddenInEngines.test(specifier)).map(specifier => `${path} imports ${specifier}`),
      ...(/\bprocess\./.test(withoutComments(text)) ? [`${path} uses process`] : []),
      ...(/\bset(Timeout|Interval|Immediate)\(/.test(withoutComments(text)) ? [`${path} sets a timer`] : [])
    ])
  t.same(touching, [])
})

t.test('only named exports, and relative imports end in .js', async t => {
  const wrong = sources.flatMap(({ path, text, imports }) => [
    ...(/^export default/m.test(text) ? [`${path} has a default export`] : []),
    ...imports.filter(specifier => isOurs(specifier) && !specifier.endsWith('.js')).map(specifier => `${path} imports ${specifier}`)
  ])
  t.same(wrong, [])
})

t.test('every error code is used, and used only as the table has it', async t => {
  const table = readFileSync(join(root, 'errors.ts'), 'utf8')
  const codes = [...table.matchAll(/^ {2}(ERR_[A-Z0-9_]+):/gm)].map(match => match[1] ?? '')
  t.ok(codes.length > 10)
  const used = new Set(
    sources
      .filter(({ path }) => path !== 'errors.ts')
      .flatMap(({ text }) => [...text.matchAll(/'(ERR_[A-Z0-9_]+)'/g)].map(match => match[1]))
  )
  t.same(
    codes.filter(code => !used.has(code)),
    []
  )
})

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/\/\/.*$/gm, '')
}
