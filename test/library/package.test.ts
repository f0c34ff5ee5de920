// The package as npm makes it, in a project of its own that has nothing but what the package depends on: as an ES module, by a dynamic
// import from CommonJS, as a command, and its types.

import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { run } from '../helpers/command.js'

const root = process.cwd()

/** Folders of the packages that are needed to run, as the lock file names them: `node_modules/aedes`. */
function runtimePackages(): readonly string[] {
  const lock: { packages: Record<string, { dev?: boolean; devOptional?: boolean }> } = JSON.parse(readFileSync('package-lock.json', 'utf8'))
  return Object.entries(lock.packages).flatMap(([path, { dev, devOptional }]) =>
    path.startsWith('node_modules/') && dev !== true && devOptional !== true && existsSync(path) ? [path] : []
  )
}

function link(project: string, path: string): void {
  // What lies inside another package came with that.
  if (path.lastIndexOf('node_modules/') > 0) return
  mkdirSync(join(project, dirname(path)), { recursive: true })
  symlinkSync(join(root, path), join(project, path))
}

const emptyProject = (async () => {
  const project = t.testdir({})
  const packed = await run(t, 'npm', ['pack', '--ignore-scripts', '--pack-destination', project], { cwd: root })
  const archive = readdirSync(project).find(name => name.endsWith('.tgz'))
  if (archive === undefined) throw new Error(packed.stderr)
  mkdirSync(join(project, 'node_modules/mosquitero'), { recursive: true })
  await run(t, 'tar', ['-xzf', archive, '-C', 'node_modules/mosquitero', '--strip-components=1'], { cwd: project })
  for (const path of runtimePackages()) link(project, path)
  return project
})()

const started = `createServer({ config: { listeners: [{ port: 0, address: '127.0.0.1' }], log_type: 'none' } })`

t.test('what is in it', async t => {
  const place = join(await emptyProject, 'node_modules/mosquitero')
  const names = readdirSync(place, { recursive: true, withFileTypes: true }).flatMap(entry =>
    entry.isFile() ? [join(entry.parentPath, entry.name).slice(place.length + 1)] : []
  )
  const expected =
    /^dist\/[\w./-]+\.(js|js\.map|d\.ts)$|^docs\/[\w-]+\.md$|^config\/[\w.-]+$|^(README|CHANGELOG)\.md$|^LICENSE$|^package\.json$/
  t.same(
    names.filter(name => !expected.test(name)),
    [],
    'nothing but what is used'
  )
  for (const name of ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'LICENSE']) t.ok(names.includes(name), name)
})

t.test('an ES module', async t => {
  const program = `import { Broker, createServer } from 'mosquitero'
const server = await ${started}
console.log(server.ports.length, server.broker instanceof Broker)
await server.close()`
  const ended = await run(t, 'node', ['--input-type=module', '-e', program], { cwd: await emptyProject })
  t.same(ended, { status: 0, stdout: '1 true\n', stderr: '' })
})

t.test('CommonJS', async t => {
  const project = await emptyProject
  writeFileSync(
    join(project, 'program.cjs'),
    `import('mosquitero').then(async ({ createServer }) => {
  const server = await ${started}
  console.log(server.ports.length)
  await server.close()
})`
  )
  t.same(await run(t, 'node', ['program.cjs'], { cwd: project }), { status: 0, stdout: '1\n', stderr: '' })
})

t.test('the command', async t => {
  const ended = await run(t, 'node', ['node_modules/mosquitero/dist/cli/main.js', '--version'], { cwd: await emptyProject })
  t.equal(ended.status, 0)
  t.match(ended.stdout, /^mosquitero version \d/)
})

t.test('its types, for a program that checks those of its packages too', async t => {
  const project = await emptyProject
  for (const path of ['node_modules/@types/node', 'node_modules/undici-types']) if (!existsSync(join(project, path))) link(project, path)
  writeFileSync(join(project, 'program.ts'), readFileSync('test/types/library.ts', 'utf8'))
  const compiler = join(root, 'node_modules/typescript/bin/tsc')
  const options = [
    '--ignoreConfig',
    '--noEmit',
    '--strict',
    '--target',
    'es2023',
    '--module',
    'nodenext',
    '--types',
    'node',
    '--exactOptionalPropertyTypes'
  ]
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }')
  const ended = await run(t, 'node', [compiler, ...options, 'program.ts'], { cwd: project })
  t.equal(ended.status, 0, ended.stdout)
})
