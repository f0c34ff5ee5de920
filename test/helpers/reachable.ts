// The command where another account can run it: the checkout may lie in a folder that is its owner's alone, as `mktemp -d` makes it.

import { chmodSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

interface TestScope {
  teardown(close: () => unknown): void
}

interface Lock {
  readonly packages: Record<string, { readonly dev?: boolean }>
}

/** The path of `dist/cli/main.js`, or of a copy with all that it needs. */
export function reachableMain(t: TestScope): string {
  const root = process.cwd()
  if (isOpen(root)) return join(root, 'dist/cli/main.js')
  const copy = mkdtempSync(join(tmpdir(), 'mosquitero-command-'))
  t.teardown(() => rmSync(copy, { recursive: true, force: true }))
  chmodSync(copy, 0o755)
  const { packages }: Lock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
  const needed = Object.keys(packages).filter(path => path.startsWith('node_modules/') && packages[path]?.dev !== true)
  // Those for other platforms are not there.
  for (const path of ['package.json', 'dist', ...needed].filter(existsSync)) cpSync(path, join(copy, path), { recursive: true })
  return join(copy, 'dist/cli/main.js')
}

/** May anybody go into it and all folders above? */
function isOpen(path: string): boolean {
  return (statSync(path).mode & 0o001) !== 0 && (dirname(path) === path || isOpen(dirname(path)))
}
