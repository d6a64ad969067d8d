"""Controls of standards that a review of access supports. Pure."""

from __future__ import annotations

from gateway.oversight.report.rows import ControlRow


def _control(control: str, soc2: str, iso: str, nist: str, supports: str) -> ControlRow:
    return ControlRow(
        control=control, soc2=soc2, iso27001=iso, nist80053=nist, supports=f"supports: {supports}"
    )


CONTROLS: tuple[ControlRow, ...] = (
    _control(
        "Access is granted to a purpose and an owner", "CC6.1, CC6.2", "A.5.15, A.5.16",
        "AC-2, AC-3", "rows of keys and people, with purpose, owner and maker",
    ),
    _control(
        "Least privilege, masks", "CC6.3", "A.5.18, A.8.2, A.8.3", "AC-6, AC-6(7)",
        "scope, masks and unused grants of each row; simulation of a change",
    ),
    _control(
        "Rights are reviewed and removed", "CC6.2, CC6.3", "A.5.18", "AC-2(j), AC-2(3)",
        "marks of reviews, changes since them, unused and ended keys",
    ),
    _control(
        "Secrets rotate and expire", "CC6.1", "A.5.17", "IA-5",
        "end and rotations of each row",
    ),
    _control(
        "Use is recorded, looked at and protected", "CC7.2, CC7.3", "A.8.15, A.8.16",
        "AU-2, AU-6, AU-9, AU-12", "the log's records, findings, and who looked at what",
    ),
)  # fmt: skip
