import fc from 'fast-check'
import t from 'tap'
import { parseAcl } from '../../dist/auth/acl-file.js'

const problemsOf = (content: Buffer | string) =>
  parseAcl(content, 'acl').problems.map(({ severity, message, at }) => `${severity} ${at?.file}:${at?.line} ${message}`)
const rulesOf = (content: Buffer | string) =>
  parseAcl(content, 'acl').rules.map(({ kind, access, filter, username, at }) => [at.line, username, kind, access, filter])

t.test('every line becomes a rule with its section and place', async t => {
  const text = '# plant\ntopic read a\n\nuser  ann lee \ntopic b\n  pattern deny %u/#\nuser bob\ntopic write c  d\n'
  t.strictSame(rulesOf(text), [
    [2, undefined, 'topic', 'read', 'a'],
    [5, 'ann lee', 'topic', 'readwrite', 'b'],
    [6, undefined, 'pattern', 'deny', '%u/#'],
    [8, 'bob', 'topic', 'write', 'c  d']
  ])
  t.strictSame(problemsOf(text), [])
})

t.test('lines may end as Windows ends them, the last one without an end', async t => {
  t.strictSame(rulesOf('user ann\r\n\r\n# x\r\ntopic read a\t \v\f\r\ntopic b'), [
    [4, 'ann', 'topic', 'read', 'a'],
    [5, 'ann', 'topic', 'readwrite', 'b']
  ])
})

t.test('everything wrong is reported at once, with its line, in Mosquitto’s words', async t => {
  const text = [
    'topic',
    'topic reads a/b',
    'topic read a/#/b',
    'user',
    'topics read a',
    '\ttopic read a',
    ' # indented',
    ' #!pattern read %o',
    'pattern',
    'pattern write x+',
    'user   ',
    'topic read ok',
    `topic read ${'/'.repeat(201)}`
  ]
  t.strictSame(problemsOf(text.join('\n')), [
    'error acl:1 Empty topic in acl_file "acl".',
    'error acl:2 Invalid topic access type "reads" in acl_file "acl".',
    'error acl:3 Invalid ACL topic "a/#/b" in acl_file "acl".',
    'error acl:4 Missing username in acl_file "acl".',
    'error acl:5 Invalid line in acl_file "acl": topics.',
    'error acl:6 Invalid line in acl_file "acl": \ttopic.',
    'error acl:7 Invalid line in acl_file "acl":  #.',
    'error acl:8 Invalid line in acl_file "acl":  #!pattern.',
    'error acl:9 Empty topic in acl_file "acl".',
    'error acl:10 Invalid ACL topic "x+" in acl_file "acl".',
    'error acl:11 Missing username in acl_file "acl".',
    `error acl:13 Invalid ACL topic "${'/'.repeat(60)}…" in acl_file "acl".`
  ])
  t.strictSame(rulesOf(text.join('\n')), [[12, undefined, 'topic', 'read', 'ok']])
})

t.test('a line that surely means something else gets a warning', async t => {
  t.strictSame(problemsOf('pattern read all/#\npattern read a/x%u\npattern read a/%u\ntopic deny\tsecret/#\ntopic read %u'), [
    "warning acl:1 ACL pattern 'all/#' does not contain '%c' or '%u'.",
    "warning acl:2 ACL pattern 'a/x%u' has '%c' or '%u' beside other text: it is replaced only where it is a whole level.",
    'warning acl:4 ACL topic "deny\tsecret/#" holds a tab and never matches: words are separated by spaces only.'
  ])
})

t.test('#!pattern is a line of ours, and nothing else behind #! is one', async t => {
  const text = '#!pattern read plant/%o/%ou/%s/%u/%c/#\n#!pattern %{c:1}/%{c:9}\n#!/usr/bin/env x\n#! hello\n#!'
  t.strictSame(rulesOf(text), [
    [1, undefined, '#!pattern', 'read', 'plant/%o/%ou/%s/%u/%c/#'],
    [2, undefined, '#!pattern', 'readwrite', '%{c:1}/%{c:9}']
  ])
  t.strictSame(problemsOf(text), [])
})

t.test('what looks like such a line and is none gets a warning', async t => {
  const slips = [
    '#!patern read a/%o',
    '#! pattern read a/%o',
    '#!Pattern read a/%o',
    '#!pattern\tread a/%o',
    '#!topic read a',
    '#!user ann'
  ]
  for (const slip of slips)
    t.match(problemsOf(slip), [/^warning acl:1 A line '#!' with '\w+' is a comment: a line of ours is written '#!pattern'\.$/], slip)
})

t.test('in a line of ours what is put nowhere is an error', async t => {
  for (const level of ['%x', '%{c:0}', '%{c:10}', '%{c:}', '%{u:1}', '%{c:1', 'x%o', '%ox', '%o%u', '%', '%C', '%{c:1}:%{c:2}']) {
    t.match(problemsOf(`#!pattern read a/${level}/#`), [/^error acl:1 Invalid '#!pattern' "a\/.*": '.*' is none of '%c', /], level)
    t.strictSame(rulesOf(`#!pattern read a/${level}/#`), [], level)
  }
  t.strictSame(problemsOf('#!pattern'), ['error acl:1 Empty topic in acl_file "acl".'])
  t.strictSame(problemsOf('#!pattern reed a/%o'), ['error acl:1 Invalid topic access type "reed" in acl_file "acl".'])
  t.strictSame(problemsOf('#!pattern read a/#/b'), ['error acl:1 Invalid ACL topic "a/#/b" in acl_file "acl".'])
})

t.test('text that is not UTF-8 is refused, but in a comment', async t => {
  t.strictSame(problemsOf(Buffer.from('# gr\xfcn\nuser J\xfcrgen\ntopic read a\0b\n', 'latin1')), [
    'error acl:2 Invalid line in acl_file "acl": it holds bytes that are not UTF-8, which no topic or username can.',
    'error acl:3 Invalid line in acl_file "acl": it holds a NUL character, which no topic or username can.'
  ])
  t.strictSame(rulesOf('user Jürgen\ntopic grün/€'), [[2, 'Jürgen', 'topic', 'readwrite', 'grün/€']])
  t.strictSame(problemsOf('\u{feff}topic read a'), [
    'error acl:1 Invalid line in acl_file "acl": \u{feff}topic. A byte order mark stands before it: save the file without.'
  ])
})

t.test('another file named by mistake does not get into the log', async t => {
  const hash = 'bob:$7$101$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo'
  t.strictSame(problemsOf(`${hash}\n`), ['error acl:1 Invalid line in acl_file "acl": bob:….'])
  const key = '-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIFake\nSecret\n-----END EC PRIVATE KEY-----\n'
  t.strictSame(problemsOf(key), ['error acl:1 Invalid line in acl_file "acl": -----BEGIN.'])
  t.strictSame(problemsOf(`\u{feff}${key}`).length, 1)
  t.strictSame(problemsOf(`  ${key}`).length, 1)
  t.strictSame(problemsOf('bob:klartext\ntopic\tread a\n'), [
    'error acl:1 Invalid line in acl_file "acl": bob:….',
    'error acl:2 Invalid line in acl_file "acl": topic\t….'
  ])
})

t.test('an empty file has no rules and no problems', async t => {
  t.strictSame(parseAcl('', 'acl'), { rules: [], problems: [] })
})

const word = fc.constantFrom(
  'topic',
  'pattern',
  '#!pattern',
  'user',
  'read',
  'write',
  'readwrite',
  'deny',
  ' ',
  '  ',
  '\t',
  '\r',
  '#',
  'a/#',
  '+',
  '%u',
  '%o',
  '%{c:1}',
  '\0',
  'é'
)
const line = fc.array(fc.oneof(word, fc.string()), { maxLength: 6 }).map(words => words.join(' '))
const text = fc.array(line, { maxLength: 12 }).map(lines => lines.join('\n'))

t.test('any bytes are rules and problems, each with a line of the file', async t => {
  const content = fc.oneof(
    text.map(text => Buffer.from(text)),
    fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))
  )
  fc.assert(
    fc.property(content, content => {
      const { rules, problems } = parseAcl(content, 'acl')
      const lines = content.toString('latin1').split('\n').length
      return [...rules, ...problems].every(({ at }) => at?.file === 'acl' && at.line !== undefined && at.line >= 1 && at.line <= lines)
    }),
    { numRuns: 5000 }
  )
  t.pass()
})

t.test('no line is ignored: it is empty, a comment, a user, a rule or a problem', async t => {
  fc.assert(
    fc.property(
      line.filter(line => !line.includes('\n')),
      line => {
        const { rules, problems } = parseAcl(line, 'acl')
        const silent = (line.startsWith('#') && !/^#!pattern( |$)/.test(line)) || /^[ \t\n\v\f\r]*$/.test(line) || /^ *user /.test(line)
        return silent || rules.length === 1 || problems.some(({ severity }) => severity === 'error')
      }
    ),
    { numRuns: 5000 }
  )
  t.pass()
})
