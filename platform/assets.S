/* SPDX-License-Identifier: ISC */
/* Files of the dashboard, inside the program as they are: dashboard.c serves them. */
	.section .rodata
	.macro asset name, file
	.global asset_\name, asset_\name\()_end
	.balign 16
asset_\name:
	.incbin "\file"
asset_\name\()_end:
	.byte 0
	.endm

	asset index, "platform/dashboard/index.html"
	asset style, "platform/dashboard/style.css"
	asset js_main, "platform/dashboard/main.js"
	asset js_ui, "platform/dashboard/ui.js"
	asset js_chart, "platform/dashboard/chart.js"
	asset js_live, "platform/dashboard/live.js"
	asset js_cold, "platform/dashboard/cold.js"
	asset js_overview, "platform/dashboard/overview.js"
	asset js_apps, "platform/dashboard/apps.js"
	asset js_one, "platform/dashboard/one.js"
	asset js_logs, "platform/dashboard/logs.js"
	asset js_starts, "platform/dashboard/starts.js"
	asset icon, "platform/dashboard/icon.svg"
	asset phases, "platform/dashboard/phases.json"

	.section .note.GNU-stack, "", @progbits
