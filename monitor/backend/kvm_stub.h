/* SPDX-License-Identifier: ISC */
/* The ring-0 page of a kvm guest. */
#ifndef COWBELL_MONITOR_KVM_STUB_H
#define COWBELL_MONITOR_KVM_STUB_H

#include "monitor/backend/backend.h"

struct kvm_sregs;

/* Write the page: GDT, IDT, TSS, exception entries. */
void kvm_stub_fill(uint8_t page[4096], const struct load_plan *plan);
/* Descriptor-table registers and segments that belong to it: ring 3, as after an iretq. */
void kvm_stub_sregs(struct kvm_sregs *s, const struct load_plan *plan);
/* Model-specific registers for `syscall`: values of STAR and FMASK. */
uint64_t kvm_stub_star(void);
uint64_t kvm_stub_fmask(void);

#endif
