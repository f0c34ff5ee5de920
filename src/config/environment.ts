// Our own options as the environment sets them: MOSQUITERO_STORE is `#!store`. The environment wins over the file.

import type { Problem } from '../errors.js'
import { readArgument } from './argument.js'
import { fail, warn } from './check.js'
import { environmentName, nearOwnOption, type Option, ownOptions } from './options.js'
import { Settings } from './settings.js'

/** Reads the variables of our own options; an empty variable is one that is not set. */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>, problems: Problem[]): Settings {
  const settings = new Settings()
  const table: Readonly<Record<string, Option>> = ownOptions
  const known = new Set(Object.keys(table).map(environmentName))
  for (const [name, option] of Object.entries(table)) {
    const variable = environmentName(name)
    const text = Object.hasOwn(env, variable) ? env[variable] : undefined
    if (text === undefined || text === '') continue
    const reading = readArgument(option.argument, variable, text)
    if ('refusal' in reading) fail(problems, 'ERR_CONF_VALUE', reading.refusal, undefined)
    else settings.add(name, { value: reading.value, at: undefined })
  }
  for (const variable of Object.keys(env)) {
    if (!variable.startsWith('MOSQUITERO_') || known.has(variable)) continue
    const near = nearOwnOption(variable.slice('MOSQUITERO_'.length))
    if (near !== undefined) warn(problems, `The environment variable ${variable} has no meaning: ${environmentName(near)} has.`, undefined)
  }
  return settings
}
