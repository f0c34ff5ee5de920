// `mosquitero acl`: the transcripts of test/cases/acl-commands, each command run as a process, and the examples of the documentation.
//
//   @ FILE                 what follows is that file
//   ---- a sentence        a test: commands, with what they print and their exit status
//   $ acl explain …        words in single quotes are one
//   ...                    whatever follows in the output
//   = 1

import { readdirSync, readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { mosquitero, must } from '../helpers/command.js'

/** The words of a command line; what is in single quotes is one. */
const words = (command: string): string[] => Array.from(command.matchAll(/'([^']*)'|\S+/g), ([word, quoted]) => quoted ?? word)

/** What a person reads who types it. */
async function printed(t: Test, cwd: string, command: string): Promise<string> {
  const { stdout, stderr } = await mosquitero(t, words(command), { cwd }).ended
  return stdout + stderr
}

t.test('the README shows what is printed', async t => {
  const readme = readFileSync('README.md', 'utf8').replaceAll(/^ {4}/gm, '\t')
  const [acl = ''] = /^\tuser ann\n(?:(?:\t.*)?\n)+/m.exec(readme) ?? []
  const [conf = ''] = /^\tpassword_file passwords\n(?:\t.*\n)+/m.exec(readme) ?? []
  const plain = (text: string) => text.replaceAll(/^\t/gm, '')
  const dir = t.testdir({ acl: plain(acl), 'mosquitto.conf': `listener 1883\n${plain(conf)}` })
  await must(t, process.execPath, [`${process.cwd()}/dist/cli/main.js`, 'passwd', '-b', '-c', 'passwords', 'ann', 'x'], { cwd: dir })
  const examples = [...readme.matchAll(/^\t\$ mosquitero (acl .*)\n((?:\t.*\n)+)/gm)]
  t.equal(examples.length, 2)
  for (const [, command = '', output = ''] of examples) t.equal(await printed(t, dir, command), plain(output), command)
})

t.test('docs/acl.md shows what is printed', async t => {
  const blocks = Array.from(readFileSync('docs/acl.md', 'utf8').matchAll(/^```(\S+)\n(.*?)^```$/gms), ([, name = '', text = '']) => ({
    name,
    text
  }))
  const files = blocks.filter(({ name }) => name !== 'console')
  const dir = t.testdir(Object.fromEntries(files.map(({ name, text }) => [name, text])))
  const examples = blocks.filter(({ name }) => name === 'console').flatMap(({ text }) => text.split(/^\$ mosquitero /m).slice(1))
  t.equal(examples.length, 5)
  for (const example of examples) {
    const [command = ''] = example.split('\n', 1)
    t.equal(await printed(t, dir, command), example.slice(command.length + 1), command)
  }
})

/** A command, what it prints, and its exit status. */
async function runTranscript(t: Test, cwd: string, text: string): Promise<void> {
  const [command = '', ...expected] = text.trimEnd().split('\n')
  const status = Number(expected.pop()?.replace('= ', ''))
  const isOpen = expected.at(-1) === '...'
  if (isOpen) expected.pop()
  const ended = await mosquitero(t, words(command), { cwd }).ended
  const output = `${ended.stdout}${ended.stderr}`.trimEnd().split('\n')
  t.same(isOpen ? output.slice(0, expected.length) : output, expected, command)
  t.equal(ended.status, status, command)
  if (status === 2 || expected[0]?.startsWith('Error')) t.equal(ended.stdout, '', 'what is wrong goes to stderr')
}

const folder = 'test/cases/acl-commands'

for (const file of readdirSync(folder)) {
  const [head = '', ...tests] = readFileSync(`${folder}/${file}`, 'utf8').split(/^---- /m)
  t.test(file.replace('.case', ''), { jobs: 2 }, async t => {
    const files = head.split(/^@ /m).slice(1)
    const cwd = t.testdir(Object.fromEntries(files.map(text => [text.slice(0, text.indexOf('\n')), text.slice(text.indexOf('\n') + 1)])))
    for (const test of tests) {
      const [name = '', ...commands] = test.split(/\n\$ /)
      void t.test(name, async t => {
        for (const text of commands) await runTranscript(t, cwd, text)
      })
    }
  })
}
