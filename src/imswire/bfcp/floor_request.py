"""One floor request as the server keeps it, and what is told about it (RFC 8855 5.2.15 to 5.2.18, 13.1.1)."""

from imswire.base import ProtocolError
from imswire.bfcp.attributes import Attribute, Group, PriorityValue, RequestStatus, Text, write
from imswire.bfcp.floor_values import User
from imswire.bfcp.message import Message
from imswire.bfcp.tables import AttributeType, Priority, Status


class FloorRequest:
    """One floor request. ``agreed`` are the floors whose chairs have agreed, ``pushed`` those that a chair wants it
    to have at once; ``order`` is its order in the queue; ``told`` is what its requester knows.
    """

    def __init__(self, id: int, floors: tuple[int, ...], message: Message, rank: int) -> None:
        self.id = id
        self.floors = floors
        self.owner = message.user
        self.beneficiary = message.number(AttributeType.BENEFICIARY_ID)
        self.asked = next((one for one in message.attributes if isinstance(one, PriorityValue)), None)
        self.info = message.text(AttributeType.PARTICIPANT_PROVIDED_INFO)
        self.status = Status.PENDING
        self.agreed: set[int] = set()
        self.pushed: set[int] = set()
        self.priority = int(Priority.NORMAL) if self.asked is None else self.asked.effective
        self.rank = rank
        self.position = 0
        self.reason = ""
        self.told: tuple[Status, int] | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Priority first, then arrival."""
        return -self.priority, self.rank

    def concerns(self, user: int) -> bool:
        """The user requested it or is to get it."""
        return user in (self.owner, self.beneficiary)


def information(request: FloorRequest, owner: User | None) -> Group:
    """FLOOR-REQUEST-INFORMATION: what must be there, and of the rest what fits into its 255 octets."""
    status = RequestStatus(request.status, request.position)
    members: list[Attribute] = [Group(AttributeType.OVERALL_REQUEST_STATUS, request.id, (status,))]
    for floor in request.floors:
        agreed = request.status is Status.PENDING and floor in request.agreed
        one = RequestStatus(Status.ACCEPTED if agreed else request.status)
        members.append(Group(AttributeType.FLOOR_REQUEST_STATUS, floor, (one,)))
    group = Group(AttributeType.FLOOR_REQUEST_INFORMATION, request.id, tuple(members))
    if request.reason:
        reason = Text(AttributeType.STATUS_INFO, request.reason)
        overall = Group(AttributeType.OVERALL_REQUEST_STATUS, request.id, (status, reason))
        group = _if_it_fits(group, Group(group.type, group.id, (overall, *members[1:])))
    optional: list[Attribute] = []
    if request.beneficiary is not None:
        optional.append(Group(AttributeType.BENEFICIARY_INFORMATION, request.beneficiary))
    if request.asked is not None:
        optional.append(PriorityValue(request.asked.effective))
    optional.append(person(AttributeType.REQUESTED_BY_INFORMATION, request.owner, owner))
    if request.info:
        optional.append(Text(AttributeType.PARTICIPANT_PROVIDED_INFO, request.info))
    for one_more in optional:
        group = _if_it_fits(group, Group(group.type, group.id, (*group.members, one_more)))
    return group


def person(type: AttributeType, id: int, user: User | None) -> Group:
    """BENEFICIARY-INFORMATION or REQUESTED-BY-INFORMATION with name and URI as far as they are known and fit."""
    group = Group(type, id)
    if user is not None:
        for attribute, text in ((AttributeType.USER_DISPLAY_NAME, user.name), (AttributeType.USER_URI, user.uri)):
            if text:
                group = _if_it_fits(group, Group(type, id, (*group.members, Text(attribute, text))))
    return group


def _if_it_fits(group: Group, longer: Group) -> Group:
    try:
        write((longer,))
    except ProtocolError:
        return group
    return longer
