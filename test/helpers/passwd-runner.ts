// `mosquitero passwd` as a process of its own: for terminals, signals and other users.

import { runPasswd } from '../../dist/cli/passwd.js'

process.exitCode = await runPasswd(process.argv.slice(2), process)
