// A device's pre-shared key as the broker's listener sees it.

import { isKeyOf, keyMark, type PskEntries } from '../auth/psk-file.js'
import type { PskConfig } from '../config/types.js'
import type { DeviceKey } from './device.js'
import { type Finding, wrong } from './finding.js'

/** What the listener would not like about it. The file is there. */
export function judgeDeviceKey({ file }: PskConfig, entries: PskEntries, device: DeviceKey | undefined): readonly Finding[] {
  const { path, at } = file
  if (device === undefined) {
    const mend = 'Name identity and key of the device by --psk-identity and --psk.'
    return [wrong('no-psk', `The listener lets nobody in without a pre-shared key of psk_file "${path}".`, mend, at)]
  }
  const { identity, key } = device
  const entry = entries.get(identity)
  if (entry === undefined) {
    const mend = 'Correct the identity, or add a line IDENTITY:HEX and reload.'
    return [wrong('psk-unknown', `The identity '${identity}' is not in psk_file "${path}".`, mend, at)]
  }
  if (isKeyOf(entries, { identity, mark: keyMark(key) })) return []
  return [wrong('psk-wrong', `The device has another key than the one of '${identity}' in psk_file.`, 'Give both the same key.', entry.at)]
}
